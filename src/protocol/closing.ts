/**
 * What a draining worker does after its last answer: it waits for the app's tasks, then runs its close handlers.
 */
import type { ErrorSummary } from './messages.ts';

/** Close handlers that a report names; more of them are only counted. */
export const MAX_CLOSE_RESULTS = 20;

export interface Closing {
  tasks: TaskTotals;
  handlers: CloseTotals;
}

/** Promises of `kit.task` that settled after the drain had begun, or did not. */
export interface TaskTotals {
  finished: number;
  /** They rejected. */
  failed: number;
  /** Not settled at the deadline of the drain. */
  timedOut: number;
  /** How long the worker waited for them after its last answer. */
  ms: number;
}

/** The handlers of `kit.onClose`, and the close hook of the app. */
export interface CloseTotals {
  count: number;
  failed: number;
  timedOut: number;
  /** Of all of them, one after another. */
  ms: number;
  /** The first ones, in the order in which they ran. */
  first: CloseResult[];
}

export interface CloseResult {
  /** Of the function; empty if it has none. */
  name: string;
  ms: number;
  result: 'done' | 'failed' | 'timed-out';
  /** Undefined unless it has failed. */
  error?: ErrorSummary;
}

/** In words, for people; empty if there was nothing to wait for. */
export function closingInWords({ tasks, handlers }: Closing): string {
  const counts = (what: string, done: number, { failed, timedOut }: Pick<TaskTotals, 'failed' | 'timedOut'>) =>
    done + failed + timedOut === 0 ? [] : [`${what}: ${done} finished, ${failed} failed, ${timedOut} timed out`];
  const handled = handlers.count - handlers.failed - handlers.timedOut;
  return [...counts('tasks', tasks.finished, tasks), ...counts('close handlers', handled, handlers)].join('; ');
}
