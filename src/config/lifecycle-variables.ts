/** The variables of starting, restarting, recycling and stopping. */
import { anyOf, milliseconds, nodeOptions, optional, text, type Variable, variable, wholeNumber } from './parse.ts';

export const lifecycleVariables = {
  shutdownDelayMs: variable(
    'SHUTDOWN_DELAY_MS',
    '5000',
    milliseconds(),
    'after SIGTERM: not ready, still accepting (endpoint removal takes time)',
    {
      shown: '`5000`, outside production `0`',
      development: '0',
    },
  ),
  shutdownTimeoutMs: variable('SHUTDOWN_TIMEOUT_MS', '25000', milliseconds(), 'then: time for open requests before they are cut'),
  workerStartTimeoutMs: variable(
    'WORKER_START_TIMEOUT_MS',
    '30000',
    milliseconds(1),
    'a worker that is not ready by then has failed',
  ),
  startTimeoutMs: variable(
    'START_TIMEOUT_MS',
    '60000',
    milliseconds(),
    'a failing first start is retried for this time, then exit code 1; at once if a retry cannot help: a syntax error, a missing module, a wrong export, EADDRINUSE, EACCES',
  ),
  beforeStart: optional(
    'BEFORE_START',
    text,
    'a module that runs once in each pod before its first worker; if it fails, the start ends with exit code 1',
  ),
  restartSurge: variable(
    'RESTART_SURGE',
    'auto',
    anyOf(['auto', 'always', 'never']),
    'a replacement starts the new worker first (`always`), ends the old one first while clients wait (`never`), or does what fits into memory (`auto`)',
  ),
  workerHeartbeatTimeoutMs: variable(
    'WORKER_HEARTBEAT_TIMEOUT_MS',
    '30000',
    milliseconds(),
    'a worker whose event loop is blocked this long is replaced; `0` off',
    { fixed: true },
  ),
  workerNodeOptions: optional(
    'WORKER_NODE_OPTIONS',
    nodeOptions,
    'Node.js options for the workers only, written as in `NODE_OPTIONS` ([Node.js options](../node-options.md))',
  ),
  workerMaxRequests: variable('WORKER_MAX_REQUESTS', '0', wholeNumber(0), 'recycle a worker after that many requests', {
    unit: 'requests',
    shown: '`0` (off)',
  }),
  workerMaxRequestsJitter: variable(
    'WORKER_MAX_REQUESTS_JITTER',
    '0',
    wholeNumber(0),
    'up to that many more requests, at random per worker, so that not all recycle at once',
    { unit: 'requests' },
  ),
  workerMaxRssMb: variable('WORKER_MAX_RSS_MB', '0', wholeNumber(0), 'recycle above this resident size (MiB), with a drain', {
    shown: '`0` (derived from the memory limit)',
  }),
  workerMaxAgeMs: variable('WORKER_MAX_AGE_MS', '0', milliseconds(), 'recycle by age', { shown: '`0` (off)' }),
  restartIntensity: variable(
    'RESTART_INTENSITY',
    '10',
    wholeNumber(0),
    'with more crashes within the period, and no worker serving for 10 s without a break, the primary exits with 70',
    { unit: 'crashes' },
  ),
  restartPeriodMs: variable('RESTART_PERIOD_MS', '60000', milliseconds(1), 'the period of `RESTART_INTENSITY`'),
} satisfies Record<string, Variable<unknown>>;
