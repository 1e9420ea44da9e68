/**
 * A request that goes to another worker, and the response that comes back: each header as it came, and none that was not there.
 */
import type { Agent, ClientRequest, IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';

// Not imported: see server-limits.ts.
const http = process.getBuiltinModule('node:http');

/** Of responses: the app may send more than clients may. */
const MAX_HEADER_BYTES = 1 << 20;
/** Headers that Node.js adds to a request, unless they were removed. */
const ADDED = ['Connection', 'Transfer-Encoding', 'Content-Length'];
/** Headers of the connection between the workers; the one to the client has its own. The answering worker adds X-Response-Time. */
const OWN = new Set(['connection', 'keep-alive', 'transfer-encoding']);
const RESPONSE_TIME = 'x-response-time';
/** Node.js refuses to send it where no trailers can follow, but it may have been received there. */
const TRAILER = 'trailer';

/**
 * The same request, to the worker at this socket; not sent yet.
 * Instrumentation replaces `http.request`, and would count a request to another server.
 * @throws Error for a request that Node.js accepts and does not send
 */
export function requestTo(
  socketPath: string,
  agent: Agent,
  { method = '', url = '', headers, rawHeaders }: IncomingMessage,
): ClientRequest {
  const upstream = new http.ClientRequest({
    agent,
    socketPath,
    method,
    path: url,
    setHost: false,
    maxHeaderSize: MAX_HEADER_BYTES,
  });
  for (const name of ADDED) upstream.removeHeader(name);
  for (const [name, value] of pairsOf(rawHeaders)) upstream.appendHeader(name, value);
  if (headers['transfer-encoding'] === undefined) upstream.removeHeader(TRAILER);
  // HTTP/1.1 requires one, HTTP/1.0 does not: empty without an authority (RFC 9112, 3.2).
  if (headers.host === undefined) upstream.setHeader('Host', '');
  return upstream;
}

/** Whether a body follows, of any length. */
export function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

/** Sends the body of `request`, and its trailers. */
export function sendBody(request: IncomingMessage, upstream: ClientRequest): void {
  request.once('end', () => {
    if (request.rawTrailers.length > 0) upstream.addTrailers([...pairsOf(request.rawTrailers)]);
    upstream.end();
  });
  request.pipe(upstream, { end: false });
}

/** Sends the response, its body and its trailers to the client. `replacesTime`: this worker sends X-Response-Time. */
export function sendResponse(incoming: IncomingMessage, response: ServerResponse, replacesTime: boolean): void {
  const { statusCode = 502, statusMessage = '', rawHeaders } = incoming;
  response.sendDate = false;
  for (const [name, value] of pairsOf(rawHeaders)) {
    const key = name.toLowerCase();
    if (!OWN.has(key) && !(key === RESPONSE_TIME && replacesTime)) response.appendHeader(name, value);
  }
  if (response.req.httpVersion === '1.0' || response.req.method === 'HEAD') response.removeHeader(TRAILER);
  response.writeHead(statusCode, statusMessage);
  // A stream of events may begin with its headers alone.
  setImmediate(() => response.writableEnded || response.flushHeaders());
  incoming.once('end', () => {
    if (incoming.rawTrailers.length > 0) response.addTrailers([...pairsOf(incoming.rawTrailers)]);
    response.end();
  });
  incoming.pipe(response, { end: false });
}

/** Sends the head of a response to an upgrade. With `isLast`, its body ends with the connection. */
export function sendHead({ statusCode, statusMessage, rawHeaders }: IncomingMessage, client: Duplex, isLast: boolean): void {
  const headers = [...pairsOf(rawHeaders)].filter(([name]) => !(isLast && OWN.has(name.toLowerCase())));
  if (isLast) headers.push(['Connection', 'close']);
  const lines = [`HTTP/1.1 ${statusCode} ${statusMessage}`, ...headers.map(([name, value]) => `${name}: ${value}`), '', ''];
  client.write(lines.join('\r\n'), 'latin1');
}

/** Sends an informational response (1xx) to the client. */
export function sendInformation(status: number, headers: IncomingMessage['headers'], response: ServerResponse): void {
  if (response.headersSent) return;
  if (status === 102) response.writeProcessing();
  const { link } = headers; // Node.js has joined several
  if (status === 103 && link !== undefined)
    response.writeEarlyHints({ ...headers, link: String(link).split(/, *(?=<)/) } as never);
}

function* pairsOf(raw: readonly string[]): Generator<[name: string, value: string]> {
  for (let index = 0; index < raw.length; index += 2) yield [raw[index] ?? '', raw[index + 1] ?? ''];
}
