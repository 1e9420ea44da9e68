/**
 * Refuses new requests while the event loop is late, so that the accepted ones still finish (MAX_EVENT_LOOP_DELAY_MS).
 */
import type { RequestListener } from 'node:http';
import { performance } from 'node:perf_hooks';

const SAMPLE_MS = 20;
const RETRY_AFTER_SECONDS = 1;

/** Wraps `listener`: 503 with Retry-After while a timer last fired more than `maxDelayMs` late. */
export function sheddingWhenLate(listener: RequestListener, maxDelayMs: number, onShed: () => void): RequestListener {
  let dueAt = performance.now() + SAMPLE_MS;
  let latenessMs = 0;
  setInterval(() => {
    const now = performance.now();
    latenessMs = now - dueAt;
    dueAt = now + SAMPLE_MS;
  }, SAMPLE_MS).unref();
  return (request, response) => {
    if (latenessMs <= maxDelayMs) return listener(request, response);
    onShed();
    response.writeHead(503, { 'Retry-After': RETRY_AFTER_SECONDS, 'Content-Type': 'text/plain; charset=utf-8' });
    response.end('This server is overloaded. Please try again in a moment.\n');
  };
}
