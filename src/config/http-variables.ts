/** The variables of requests and connections of the app. */
import { anyOf, bucketBounds, flag, milliseconds, optional, type Variable, variable, wholeNumber } from './parse.ts';

export const httpVariables = {
  maxEventLoopDelayMs: variable(
    'MAX_EVENT_LOOP_DELAY_MS',
    '0',
    milliseconds(),
    'above this a worker sheds new requests with 503 and Retry-After',
    {
      shown: '`0` (off)',
    },
  ),
  adaptiveConcurrency: variable(
    'ADAPTIVE_CONCURRENCY',
    'false',
    flag,
    'each worker limits the requests that its app handles at once, by their latency; above that they wait briefly, then get 503 with Retry-After ([limits](../guide/limits.md#more-requests-than-the-app-can-answer))',
  ),
  handlerTimeoutMs: variable(
    'HANDLER_TIMEOUT_MS',
    '0',
    milliseconds(),
    'a request that the app has not begun to answer after this gets 503, and its connection ends; the time begins when the request has arrived',
    { shown: '`0` (off)' },
  ),
  maxConnections: optional(
    'MAX_CONNECTIONS',
    wholeNumber(1),
    'connections of each worker; a full one closes the connections that have been idle for longest, and otherwise leaves new ones to other workers',
    {
      unit: 'connections',
      shown: 'the descriptor limit less a quarter, at most 1,000; a third of that with `NODE_CLUSTER_STICKY`',
    },
  ),
  keepAliveTimeoutMs: variable(
    'KEEP_ALIVE_TIMEOUT_MS',
    '75000',
    milliseconds(1),
    'an idle connection is ended after this; keep it above the load balancer’s',
  ),
  moveConnections: variable(
    'MOVE_CONNECTIONS',
    'true',
    flag,
    'a worker that ends while others serve moves its open connections to them between two requests, so that no client sees a close; not those with TLS, WebSockets, nor connections to which the app has added something',
  ),
  headersTimeoutMs: variable('HEADERS_TIMEOUT_MS', '60000', milliseconds(1), 'time for a client to send its headers (slowloris)'),
  requestTimeoutMs: variable(
    'REQUEST_TIMEOUT_MS',
    '300000',
    milliseconds(),
    'time for a client to send its whole request; `0`: no limit',
  ),
  maxHeaderBytes: variable('MAX_HEADER_BYTES', '16384', wholeNumber(1024, 1 << 20), 'size limit of request headers'),
  metricsBuckets: variable(
    'METRICS_BUCKETS',
    '0.001,0.0025,0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10',
    bucketBounds,
    'upper bounds of the buckets of `http_request_duration_seconds`, rising, at most 50',
    { unit: 'seconds', fixed: true },
  ),
  metricsRoutes: variable(
    'METRICS_ROUTES',
    'false',
    flag,
    'adds the label `route` to `http_request_duration_seconds`, at most 100 of them, and the slowest routes to `/status` and the dashboard',
    { fixed: true },
  ),
  responseTimeHeader: variable('RESPONSE_TIME_HEADER', 'true', flag, '`X-Response-Time: <n>ms` on every response'),
  sticky: optional(
    'NODE_CLUSTER_STICKY',
    anyOf(['cookie']),
    '`cookie`: the requests of one client reach one worker of the pod, for long polling of Socket.IO ([WebSockets](../guide/websockets.md#long-polling))',
    { shown: 'unset (off)', fixed: true },
  ),
  trustProxy: variable('TRUST_PROXY', 'false', flag, 'Koa’s `app.proxy`: trust `X-Forwarded-*` of the proxy in front'),
} satisfies Record<string, Variable<unknown>>;
