/**
 * What a worker reports of the app's health checks (`kit.health`), and the bounds of that.
 */
import type { ErrorSummary } from './messages.ts';

/** Of one worker. */
export const MAX_CHECKS = 20;
/** Shown in URLs, labels, logs and on terminals. */
export const CHECK_NAME = /^[a-zA-Z0-9][\w.-]{0,63}$/;

/** A check of one worker; sent when it is registered, and after each run. */
export interface HealthReport {
  name: string;
  /** It decides whether the pod is ready. */
  readiness: boolean;
  /** The next report comes within this time, unless the worker is blocked. */
  validMs: number;
  /** Undefined before the first run. */
  result?: HealthResult;
}

export interface HealthResult {
  /** In a row; 0 if the last run has passed. */
  failures: number;
  /** Of the last run. */
  durationMs: number;
  /** Of the last run, if it has failed. */
  failure?: CheckFailure;
}

export type CheckFailure =
  /** It has not ended by then. */
  | { kind: 'timed-out'; afterMs: number }
  /** It has thrown or rejected; `message` is text of the app. */
  | { kind: 'threw'; message: string; summary: Omit<ErrorSummary, 'own'> }
  /** It has returned false, or an object whose `ok` is false; `message` is the value in words, and text of the app. */
  | { kind: 'returned'; value: 'false' | 'ok: false'; message: string };
