/**
 * The errors of a pool, as `/status` has them.
 */

/** Answers and requests of a kind: since the start, and per second over the last 10 s. */
export interface Counted {
  count: number;
  perSecond: number;
}

/** The errors among the answers of a worker, or of the pool; counts of the pool include those of workers that have ended. */
export interface ErrorStatus {
  '4xx': Counted;
  '5xx': Counted;
  /** Of 5xx among all answers of the last 10 s: 0 to 1. */
  share: number;
  /** Requests whose client closed the connection before the answer began. They have no status, and are no error. */
  abandoned: Counted;
}
