/**
 * `bosun errors`: the last request errors as text, the newest last.
 */
import type { WorkerError } from '../protocol/error-status.ts';
import { printable } from '../protocol/shapes.ts';

/** Of a line: the log has all of it. */
const MAX_LINE = 300;

/** Two or three lines for each error. */
export function renderErrors(errors: readonly WorkerError[]): string {
  return errors.length === 0 ? 'no request has failed' : errors.map(renderError).join('\n');
}

function renderError(error: WorkerError): string {
  const { at, worker, status, method, path = '', route, count, trace_id, class: name, code, message, frame } = error;
  const time = new Date(at).toLocaleTimeString('en-GB');
  const request = `${status} ${method} ${path}${path === route ? '' : ` (${route})`}, worker ${worker}`;
  const times = count > 1 ? `, ${count} times` : '';
  const trace = trace_id === undefined ? '' : `, trace ${trace_id}`;
  const first = `${time} ${method === undefined ? `worker ${worker} has ended` : request}${times}${trace}`;
  const second = message === undefined ? meaningOf(name) : `${name}${code === undefined ? '' : ` ${code}`}: ${message}`;
  return [first, `  ${second}`, ...(frame === undefined ? [] : [`  ${frame}`])].map(line => printable(line, MAX_LINE)).join('\n');
}

/** Of an answer without an error. */
function meaningOf(name: string): string {
  if (name === 'Overloaded') return 'refused: the event loop was blocked for longer than MAX_EVENT_LOOP_DELAY_MS';
  if (name === 'ConcurrencyLimit') return 'refused: more requests at once than the limit of ADAPTIVE_CONCURRENCY';
  if (name === 'HandlerTimeout') return 'the app did not begin to answer within HANDLER_TIMEOUT_MS';
  return 'the app gave this answer; the kit has seen no error';
}
