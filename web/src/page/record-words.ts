// The pages' words for what a trip adds up to: its stops, its gaps, and how good its record is.

import { words } from "./words.ts";

export interface RecordWords {
  details: string;
  stops(count: number): string;
  /** An end of the trip, where a stop was. */
  at: Record<"pickup" | "dropoff", string>;
  gaps(count: number): string;
  moved(distance: string): string;
  still: string;
  quality: string;
  coverage: string;
  average: string;
  fastest: string;
  fastestButOne: string;
  positions: string;
  late: string;
  flagged: string;
  corrected: string;
  delays: string;
}

const EN: RecordWords = {
  details: "Details of the trip",
  stops: (count) => (count === 1 ? "1 stop" : `${count} stops`),
  at: { pickup: "At the pick-up", dropoff: "At the drop-off" },
  gaps: (count) => (count === 1 ? "Once without a position" : `${count} times without a position`),
  moved: (distance) => `${distance} farther on, as the crow flies; the way is not known`,
  still: "In the same place before and after",
  quality: "How good the record is",
  coverage: "Recorded share of the time",
  average: "Average speed on the move",
  fastest: "Highest speed, as the phone said",
  fastestButOne: "Of a hundred speeds the highest but one",
  positions: "Positions, left-out ones too",
  late: "Received over a minute late",
  flagged: "Left out as impossible",
  corrected: "With a corrected clock",
  delays: "Delay, p50 / p95",
};

const ID: RecordWords = {
  details: "Rincian perjalanan",
  stops: (count) => `${count} pemberhentian`,
  at: { pickup: "Di tempat penjemputan", dropoff: "Di tujuan" },
  gaps: (count) => `${count} kali tanpa posisi`,
  moved: (distance) => `${distance} lebih jauh, garis lurus; jalannya tidak diketahui`,
  still: "Di tempat yang sama sebelum dan sesudahnya",
  quality: "Mutu rekaman",
  coverage: "Bagian waktu yang terekam",
  average: "Kecepatan rata-rata saat bergerak",
  fastest: "Kecepatan tertinggi menurut ponsel",
  fastestButOne: "Kecepatan tertinggi kedua dari seratus",
  positions: "Posisi, termasuk yang diabaikan",
  late: "Diterima terlambat lebih dari satu menit",
  flagged: "Diabaikan karena mustahil",
  corrected: "Dengan jam yang dikoreksi",
  delays: "Tunda, p50 / p95",
};

export const recordWords = words.language === "id" ? ID : EN;
