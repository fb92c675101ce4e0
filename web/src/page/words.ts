// The pages' words in each language, and numbers, distances and times as people there write them.

export interface Words {
  language: string;
  titleTrip: string;
  requested: string;
  toPickup: string;
  toDropoff: string;
  nearPickup: string;
  nearDropoff: string;
  atPickup(time: string): string;
  atDropoff(time: string): string;
  arrives: string;
  inMinutes(from: number, to: number): string;
  withinMinutes(to: number): string;
  completed: string;
  cancelled: string;
  waiting: string;
  connecting: string;
  live: string;
  stale: string;
  phone: string;
  unusable: string;
  service: string;
  link: string;
  retryIn(seconds: number): string;
  refused: string;
  expired: string;
  signIn: string;
  noPosition: string;
  speed: string;
  driven: string;
  toGo: string;
  duration: string;
  standing: string;
  moved: string;
  stood: string;
  unknown: string;
  stops: string;
  whereNow: string;
  follow: string;
  following: string;
  wholeRoute: string;
  zoomIn: string;
  zoomOut: string;
  filledIn: string;
  mapFailed: string;
  map: string;
  share: string;
  shareTitle: string;
  shareMake: string;
  shareLabel: string;
  shareFor: string;
  shareHours(hours: number): string;
  shareFromPickup: string;
  shareCopy: string;
  shareCopied: string;
  shareExtend: string;
  shareFromNow(hours: number): string;
  shareUnchanged(until: string): string;
  shareAfterEnd: string;
  shareAfter(hours: number): string;
  shareViewers(count: number): string;
  shareOver: string;
  save: string;
  shareRevoke: string;
  shareRevoked: string;
  shareNone: string;
  shareOpens(count: number, last: string | null): string;
  shareUntil: string;
  shareFailed: string;
  close: string;
  started: string;
  ended: string;
  pickedUp: string;
  fromPickup: string;
  here(position: string): string;
  directions: readonly string[];
  opsTitle: string;
  opsTrips(shown: number, all: number): string;
  opsSearch: string;
  opsAll: string;
  opsLive: string;
  opsStale: string;
  opsLost: string;
  opsToPickup: string;
  opsToDropoff: string;
  /** Of the end of a way, and since when. */
  opsArrival(arrival: "approaching" | "arrived" | "left", atPickup: boolean, time: string): string;
  opsArrivedAt(atPickup: boolean): string;
  opsByAge: string;
  opsByNumber: string;
  opsBySpeed: string;
  opsFreshness: string;
  opsPhase: string;
  opsOrder: string;
  opsReason(reason: string | null): string;
  opsHealth: string;
  opsMap: string;
  opsFinished: string;
  opsNothing: string;
  opsStatus: string;
  opsPoints: string;
  opsOutOfOrder: string;
  opsGaps: string;
  opsEvents: string;
  /** Of an event's kind, or of how a trip stands. */
  opsKind(kind: string): string;
  opsChart: string;
  opsPlay: string;
  opsPause: string;
  opsPace: string;
  opsTime: string;
  opsRefused: string;
}

const EN: Words = {
  language: "en",
  titleTrip: "Live trip",
  requested: "Waiting for a runner",
  toPickup: "The runner is on the way to the pick-up",
  toDropoff: "Your pet is on its way",
  nearPickup: "Approaching the pick-up",
  nearDropoff: "Your pet is almost there",
  atPickup: (time) => `Arrived at the pick-up, ${time}`,
  atDropoff: (time) => `Your pet is there, ${time}`,
  arrives: "Arrives",
  inMinutes: (from, to) => `in ${from} to ${to} minutes`,
  withinMinutes: (to) => (to <= 1 ? "within a minute" : `within ${to} minutes`),
  completed: "Arrived",
  cancelled: "The trip was cancelled",
  waiting: "This link shows the trip from the pick-up on",
  connecting: "Connecting …",
  live: "Live",
  stale: "Not live",
  phone: "The runner's phone is silent",
  unusable: "The runner is heard, but without a usable position",
  service: "Our service is behind; it is catching up",
  link: "Your connection is interrupted",
  retryIn: (seconds) => `Next try in ${seconds} s`,
  refused: "This trip cannot be shown. The link may have ended, or the trip is not yours.",
  expired: "Your session has ended. Please sign in again.",
  signIn: "Sign in",
  noPosition: "No position yet",
  speed: "Speed",
  driven: "Driven",
  toGo: "To go, as the crow flies",
  duration: "Duration",
  standing: "standing",
  moved: "On the move",
  stood: "Standing",
  unknown: "Not recorded",
  stops: "Stops",
  whereNow: "Where is it now?",
  follow: "Follow",
  following: "Following",
  wholeRoute: "Whole route",
  zoomIn: "Zoom in",
  zoomOut: "Zoom out",
  filledIn: "Filled in after a gap",
  mapFailed: "The map cannot be drawn here; the route is",
  map: "Map of the trip",
  share: "Share",
  shareTitle: "Share this trip",
  shareMake: "Make a link",
  shareLabel: "For whom? (only you see this)",
  shareFor: "Ends after",
  shareHours: (hours) => (hours === 1 ? "1 hour" : `${hours} hours`),
  shareFromPickup: "Show nothing before the pick-up",
  shareCopy: "Copy link",
  shareCopied: "Copied",
  shareExtend: "Change the end",
  shareFromNow: (hours) => (hours === 1 ? "1 hour from now" : `${hours} hours from now`),
  shareUnchanged: (until) => `As it is: ${until}`,
  shareAfterEnd: "After the trip's end",
  shareAfter: (hours) =>
    hours === 0 ? "ends at once" : `stays for ${hours === 1 ? "1 hour" : `${hours} hours`}`,
  shareViewers: (count) => (count === 1 ? "1 looks now" : `${count} look now`),
  shareOver: "over",
  save: "Save",
  shareRevoke: "Revoke",
  shareRevoked: "revoked",
  shareNone: "No links yet",
  shareOpens: (count, last) =>
    count === 0 ? "not opened yet" : `opened ${count} ×${last ? `, last ${last}` : ""}`,
  shareUntil: "until",
  shareFailed: "That did not work. Please try again.",
  close: "Close",
  started: "Began",
  ended: "Ended",
  pickedUp: "Picked up",
  fromPickup: "From the pick-up to the end",
  here: (position) => `Now at ${position}`,
  directions: ["north", "north-east", "east", "south-east", "south", "south-west", "west",
    "north-west"],
  opsTitle: "All trips",
  opsTrips: (shown, all) => `${shown === all ? "" : `${shown} of `}${all} ${all === 1 ? "trip" : "trips"}`,
  opsSearch: "Booking number",
  opsAll: "All",
  opsLive: "Live",
  opsStale: "Stale",
  opsLost: "Lost",
  opsToPickup: "To the pick-up",
  opsToDropoff: "To the drop-off",
  opsArrival(arrival, atPickup, time) {
    const place = atPickup ? "the pick-up" : "the drop-off";
    if (arrival === "arrived") return `At ${place} since ${time}`;
    return arrival === "left" ? `Left ${place} at ${time}` : `Near ${place} since ${time}`;
  },
  opsArrivedAt: (atPickup) => (atPickup ? "At the pick-up" : "At the drop-off"),
  opsByAge: "Longest silent",
  opsByNumber: "Number",
  opsBySpeed: "Fastest",
  opsFreshness: "Freshness",
  opsPhase: "Phase",
  opsOrder: "Order",
  opsReason: (reason) =>
    reason === "no_points" ? "phone silent"
    : reason === "no_usable_points" ? "no usable position"
    : reason === "pipeline_delayed" ? "service behind" : (reason ?? ""),
  opsHealth: "Service",
  opsMap: "Trips",
  opsFinished: "Finished trips",
  opsNothing: "Nothing found",
  opsStatus: "Status",
  opsPoints: "Points",
  opsOutOfOrder: "Out of order",
  opsGaps: "Gaps",
  opsEvents: "Events",
  opsKind: (kind) => kind.replaceAll("_", " "),
  opsChart: "Speed over time, in km/h",
  opsPlay: "Play",
  opsPause: "Pause",
  opsPace: "Pace",
  opsTime: "Time",
  opsRefused: "This page is for administrators.",
};

const ID_KINDS: Record<string, string> = {
  requested: "dipesan",
  accepted: "diterima",
  picked_up: "dijemput",
  delivered: "diantar",
  cancelled: "dibatalkan",
  completed: "selesai",
};

const ID: Words = {
  language: "id",
  titleTrip: "Perjalanan langsung",
  requested: "Menunggu runner",
  toPickup: "Runner sedang menuju tempat penjemputan",
  toDropoff: "Hewan Anda sedang dalam perjalanan",
  nearPickup: "Runner hampir sampai di tempat penjemputan",
  nearDropoff: "Hewan Anda hampir sampai",
  atPickup: (time) => `Tiba di tempat penjemputan, ${time}`,
  atDropoff: (time) => `Hewan Anda sudah sampai, ${time}`,
  arrives: "Tiba",
  inMinutes: (from, to) => `dalam ${from} sampai ${to} menit`,
  withinMinutes: (to) => `dalam ${to} menit`,
  completed: "Sudah tiba",
  cancelled: "Perjalanan dibatalkan",
  waiting: "Tautan ini menampilkan perjalanan sejak penjemputan",
  connecting: "Menghubungkan …",
  live: "Langsung",
  stale: "Tidak langsung",
  phone: "Ponsel runner tidak mengirim kabar",
  unusable: "Runner terdengar, tetapi tanpa posisi yang dapat dipakai",
  service: "Layanan kami tertinggal; sedang mengejar",
  link: "Koneksi Anda terputus",
  retryIn: (seconds) => `Mencoba lagi dalam ${seconds} dtk`,
  refused: "Perjalanan ini tidak dapat ditampilkan. Tautan mungkin sudah berakhir, atau bukan milik Anda.",
  expired: "Sesi Anda telah berakhir. Silakan masuk lagi.",
  signIn: "Masuk",
  noPosition: "Belum ada posisi",
  speed: "Kecepatan",
  driven: "Jarak tempuh",
  toGo: "Sisa jarak garis lurus",
  duration: "Durasi",
  standing: "berhenti",
  moved: "Bergerak",
  stood: "Diam",
  unknown: "Tidak terekam",
  stops: "Pemberhentian",
  whereNow: "Di mana sekarang?",
  follow: "Ikuti",
  following: "Mengikuti",
  wholeRoute: "Seluruh rute",
  zoomIn: "Perbesar",
  zoomOut: "Perkecil",
  filledIn: "Dilengkapi setelah jeda",
  mapFailed: "Peta tidak dapat digambar di sini; rutenya dapat",
  map: "Peta perjalanan",
  share: "Bagikan",
  shareTitle: "Bagikan perjalanan ini",
  shareMake: "Buat tautan",
  shareLabel: "Untuk siapa? (hanya Anda yang melihat)",
  shareFor: "Berakhir setelah",
  shareHours: (hours) => `${hours} jam`,
  shareFromPickup: "Jangan tampilkan apa pun sebelum penjemputan",
  shareCopy: "Salin tautan",
  shareCopied: "Tersalin",
  shareExtend: "Ubah akhirnya",
  shareFromNow: (hours) => `${hours} jam dari sekarang`,
  shareUnchanged: (until) => `Tetap: ${until}`,
  shareAfterEnd: "Setelah perjalanan selesai",
  shareAfter: (hours) => (hours === 0 ? "langsung berakhir" : `tetap ada ${hours} jam`),
  shareViewers: (count) => `${count} sedang melihat`,
  shareOver: "sudah berakhir",
  save: "Simpan",
  shareRevoke: "Cabut",
  shareRevoked: "dicabut",
  shareNone: "Belum ada tautan",
  shareOpens: (count, last) =>
    count === 0 ? "belum dibuka" : `dibuka ${count} ×${last ? `, terakhir ${last}` : ""}`,
  shareUntil: "sampai",
  shareFailed: "Tidak berhasil. Silakan coba lagi.",
  close: "Tutup",
  started: "Mulai",
  ended: "Selesai",
  pickedUp: "Dijemput",
  fromPickup: "Dari penjemputan sampai selesai",
  here: (position) => `Sekarang di ${position}`,
  directions: ["utara", "timur laut", "timur", "tenggara", "selatan", "barat daya", "barat",
    "barat laut"],
  opsTitle: "Semua perjalanan",
  opsTrips: (shown, all) => (shown === all ? `${all} perjalanan` : `${shown} dari ${all} perjalanan`),
  opsSearch: "Nomor pemesanan",
  opsAll: "Semua",
  opsLive: "Langsung",
  opsStale: "Lama",
  opsLost: "Hilang",
  opsToPickup: "Menuju penjemputan",
  opsToDropoff: "Menuju tujuan",
  opsArrival(arrival, atPickup, time) {
    const place = atPickup ? "tempat penjemputan" : "tujuan";
    if (arrival === "arrived") return `Di ${place} sejak ${time}`;
    return arrival === "left" ? `Pergi dari ${place} ${time}` : `Dekat ${place} sejak ${time}`;
  },
  opsArrivedAt: (atPickup) => (atPickup ? "Di penjemputan" : "Di tujuan"),
  opsByAge: "Paling lama diam",
  opsByNumber: "Nomor",
  opsBySpeed: "Tercepat",
  opsFreshness: "Kebaruan",
  opsPhase: "Tahap",
  opsOrder: "Urutan",
  opsReason: (reason) =>
    reason === "no_points" ? "ponsel diam"
    : reason === "no_usable_points" ? "tanpa posisi yang dapat dipakai"
    : reason === "pipeline_delayed" ? "layanan tertinggal" : (reason ?? ""),
  opsHealth: "Layanan",
  opsMap: "Perjalanan",
  opsFinished: "Perjalanan selesai",
  opsNothing: "Tidak ditemukan",
  opsStatus: "Status",
  opsPoints: "Titik",
  opsOutOfOrder: "Tidak berurutan",
  opsGaps: "Jeda",
  opsEvents: "Peristiwa",
  opsKind: (kind) => ID_KINDS[kind] ?? kind.replaceAll("_", " "),
  opsChart: "Kecepatan terhadap waktu, dalam km/jam",
  opsPlay: "Putar",
  opsPause: "Jeda",
  opsPace: "Laju",
  opsTime: "Waktu",
  opsRefused: "Halaman ini untuk administrator.",
};

/** `?lang=` first, then what the browser asks for. */
function chosen(): Words {
  const asked = new URLSearchParams(location.search).get("lang");
  for (const language of [asked, ...navigator.languages]) {
    const short = language?.slice(0, 2).toLowerCase();
    if (short === "id" || short === "ms") return ID;
    if (short === "en") return EN;
  }
  return EN;
}

export const words = chosen();

/** The language as this person writes it: an English browser of Singapore counts to 24 hours. */
const locale =
  navigator.languages.find((each) => each.slice(0, 2).toLowerCase() === words.language) ??
  words.language;

const number = (digits: number, unit: string): Intl.NumberFormat =>
  new Intl.NumberFormat(locale, {
    style: "unit", unit, unitDisplay: "short", maximumFractionDigits: digits,
    minimumFractionDigits: digits,
  });

const metres = number(0, "meter");
const kilometres = number(1, "kilometer");
const wholeKilometres = number(0, "kilometer");
const kmh = number(0, "kilometer-per-hour");
const relative = new Intl.RelativeTimeFormat(locale, { numeric: "always", style: "short" });
const clock = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(locale, {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit",
});

export const distance = (m: number): string =>
  m < 950 ? metres.format(Math.round(m / 10) * 10) : kilometres.format(m / 1000);

/** As it is, without digits that say nothing: for a scale. */
export const roundDistance = (m: number): string =>
  m < 1000 ? metres.format(m) : wholeKilometres.format(m / 1000);

const percent = new Intl.NumberFormat(locale, { style: "percent" });

/** Never more than it is: 99.9 % is not all of it. */
export const share = (part: number): string => percent.format(Math.floor(part * 100) / 100);

/** "0.4 s", "12 s" */
export const delay = (seconds: number): string =>
  number(seconds < 10 ? 1 : 0, "second").format(seconds);

export const speed = (kilometresPerHour: number): string => kmh.format(kilometresPerHour);

/** "12 s ago" */
export function ago(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 90) return relative.format(-seconds, "second");
  if (seconds < 5400) return relative.format(-Math.round(seconds / 60), "minute");
  if (seconds < 129_600) return relative.format(-Math.round(seconds / 3600), "hour");
  return relative.format(-Math.round(seconds / 86_400), "day");
}

/** "in 9 to 13 minutes": whole minutes, the band never narrower than it is. */
export function within(earliest: number, latest: number, now: number): string {
  const to = Math.max(1, Math.ceil((latest - now) / 60_000));
  const from = Math.floor((earliest - now) / 60_000);
  return from < 1 ? words.withinMinutes(to) : words.inMinutes(from, to);
}

export const timeOfDay = (ms: number): string => clock.format(ms);

export const dayAndTime = (ms: number): string => day.format(ms);

const second = new Intl.DateTimeFormat(locale, {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit",
});

export const dayAndSecond = (ms: number): string => second.format(ms);

export function duration(ms: number): string {
  const minutes = Math.round(ms / 60_000);
  const hours = Math.floor(minutes / 60);
  const h = new Intl.NumberFormat(locale, { style: "unit", unit: "hour" });
  const m = new Intl.NumberFormat(locale, { style: "unit", unit: "minute" });
  return hours > 0 ? `${h.format(hours)} ${m.format(minutes % 60)}` : m.format(minutes);
}

/** As a person reads it to another: five digits are a metre. */
export function position(latitude: number, longitude: number): string {
  const format = new Intl.NumberFormat(locale, {
    minimumFractionDigits: 5, maximumFractionDigits: 5,
  });
  const south = latitude < 0 ? "S" : "N";
  const west = longitude < 0 ? "W" : "E";
  return `${format.format(Math.abs(latitude))}° ${south}, ${format.format(Math.abs(longitude))}° ${west}`;
}

export const direction = (degrees: number): string =>
  words.directions[Math.round((((degrees % 360) + 360) % 360) / 45) % 8]!;
