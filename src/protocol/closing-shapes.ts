/**
 * The shape of what a worker reports of its close handlers and tasks, and how much of it is kept.
 */
import type { CloseResult, CloseTotals, Closing, TaskTotals } from './closing.ts';
import { MAX_CLOSE_RESULTS } from './closing.ts';
import { errorSummary } from './error-shapes.ts';
import { list, number, object, oneOf, optional, type Parser, string } from './shapes.ts';

const count = number(0);

/** Names of functions are shown to everyone: anything but a plain one becomes empty. */
const functionName: Parser<string> = (value, at) => {
  const name = string(1000)(value, at);
  return /^[\w$.#-]{1,64}$/.test(name) ? name : '';
};

export const closing = object<Closing>({
  tasks: object<TaskTotals>({ finished: count, failed: count, timedOut: count, ms: count }),
  handlers: object<CloseTotals>({
    count,
    failed: count,
    timedOut: count,
    ms: count,
    first: list(
      object<CloseResult>({
        name: functionName,
        ms: count,
        result: oneOf('done', 'failed', 'timed-out'),
        error: optional(errorSummary),
      }),
      MAX_CLOSE_RESULTS,
    ),
  }),
});
