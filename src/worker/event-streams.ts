/**
 * Server-sent events that never end: how a drain recognises such a response, and ends it so that its client reconnects.
 */
import type { ServerResponse } from 'node:http';
import type { Exchange } from './connections.ts';
import { dropWrites } from './drop-writes.ts';

const ACCEPT = /^text\/event-stream\b/i;
const CONTENT_TYPE = /^content-type: *text\/event-stream\b/im;
const CONTENT_ENCODING = /^content-encoding:/im;
const CONTENT_LENGTH = /^content-length:/im;

/**
 * A stream that never ends, whose client reconnects by itself, as the HTML standard requires of every EventSource: the response has begun, to a
 * GET that accepts this type. The answer to a POST, such as the output of a language model, ends by itself, and its client would not repeat the request.
 */
export function isEventStream({ request, response }: Exchange): boolean {
  if (request.method !== 'GET' || !ACCEPT.test(request.headers.accept ?? '')) return false;
  const head = headOf(response);
  return response.headersSent && CONTENT_TYPE.test(head) && !CONTENT_LENGTH.test(head);
}

/**
 * Ends it, and its connection. The client reconnects after about `retryMs`: a line takes effect as soon as it is read, and an event that no blank
 * line follows is dropped, so this line is right wherever the app has stopped. What the app still writes is dropped, as after a disconnect.
 */
export function endEventStream({ response, connection }: Exchange, retryMs: number): void {
  // Its client would reconnect over the kept connection, to this worker.
  response.once('finish', () => {
    if (connection.exchanges.length === 0) connection.socket.destroySoon();
  });
  // What a stream of the app has compressed is not continued by plain text.
  if (!CONTENT_ENCODING.test(headOf(response))) response.write(`retry: ${retryMs}\n`);
  response.end();
  dropWrites(response);
}

/** As it was sent: headers that are passed to `writeHead` are not always kept elsewhere. */
function headOf(response: ServerResponse): string {
  return String(Reflect.get(response, '_header') ?? '');
}
