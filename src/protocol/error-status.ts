/**
 * The errors of a pool and its routes, as `/status` has them.
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

/** A request that an error has ended, or an error that has ended a worker; or several of the same kind within a second. */
export interface RequestError {
  /** Milliseconds since the epoch, of the last one. */
  at: number;
  /** Of the error; `HTTP 500` where the app has answered so and the kit has seen no error; `Overloaded`, `ConcurrencyLimit` and `HandlerTimeout` for answers of the kit. */
  class: string;
  code?: string;
  /** Of the app's code. */
  file?: string;
  line?: number;
  /** Missing where no request is known, as are route and status. */
  method?: string;
  route?: string;
  /** Of the answer; below 400 the error has interrupted it. */
  status?: number;
  count: number;
  /** Text of the app, for operators. */
  message?: string;
  /** The first line of the stack. For operators. */
  frame?: string;
  /** Without the query. For operators. */
  path?: string;
  trace_id?: string;
}

/** A request error, and the worker in which it was thrown last. */
export type WorkerError = RequestError & { worker: number };

/** The requests of one method and route in the last 10 minutes. */
export interface RouteStatus {
  method: string;
  /** The pattern that a router of the app has matched, else the path with all but its first word replaced by `:id`; `other` beyond 100 routes, and for 4xx that match none. */
  route: string;
  requests: number;
  /** Of the response times of all requests together: 0 to 1. */
  share: number;
  meanMs: number;
  /** Of the requests, those answered with 5xx. */
  errors: number;
}

/** Errors that a worker reports at once, that the primary keeps, and kinds of errors that it counts. */
export const MAX_ERRORS = 50;
