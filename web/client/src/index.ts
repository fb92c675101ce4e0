// The client library of service-tracking: one model of a trip, fed by tracking.v1.

export {};
