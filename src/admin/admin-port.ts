/**
 * What is behind the admin port: probes, status, metrics, events, the dashboard; and the shutdown, which terminus runs there.
 */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { openUrl } from '../config/open-url.ts';
import { hostAndPort } from '../config/parse.ts';
import type { LogSource } from '../log/log.ts';
import { audienceOf } from '../protocol/audience.ts';
import { EXIT_REASONS, ExitCode, type ExitReason, isFailure } from '../protocol/exit.ts';
import { fileLimit } from '../resources/usage.ts';
import { adminConnections } from './connection-limit.ts';
import type { History } from './history.ts';
import type { Readiness } from './readiness.ts';
import { type Answer, openAdmin, SHUTDOWN } from './server.ts';
import { EventStream, MAX_READERS } from './sse.ts';
import type { Pod } from './status.ts';

/** What ends the pool (primary/shutdown.ts). */
export interface AdminShutdown {
  /** Sets who runs it; without an argument, the shutdown itself. */
  runBy(runner?: () => void): void;
  drain(): Promise<void>;
  /** Ends the process. */
  exit(): Promise<void>;
  abort(code: ExitCode, message: string): void;
}

export interface AdminContext {
  host: string;
  port: number;
  /** Nothing restarts the pool when it cannot open the port, and its predecessor may be about to end (nodemon). */
  isDevelopment: boolean;
  /** The default port, outside production: another pool on this machine may have it, and this one goes on without. */
  isOptional: boolean;
  /** The current ADMIN_TOKEN. */
  token: () => string | undefined;
  /** The current ADMIN_ALLOWED_HOSTS. */
  allowedHosts: () => readonly string[];
  log: LogSource;
  history: History;
  shutdown: AdminShutdown;
  pod: () => Pod;
  readiness: () => Readiness;
  /** Undefined once the pod has started. */
  whyNotStarted: () => string | undefined;
}

/** A predecessor that ends keeps its admin port until it has drained. */
const PREDECESSOR_MS = 3000;

/** Opens the admin port; if that fails, the pool ends, or goes on without where the port is optional. */
export async function openAdminPort(context: AdminContext): Promise<void> {
  const { host, port, isDevelopment, token, allowedHosts, log, history, shutdown, pod, readiness, whyNotStarted } = context;
  const descriptors = fileLimit()?.soft ?? Number.POSITIVE_INFINITY;
  const maxConnections = () => adminConnections(descriptors, pod().supervisor.wanted);
  const maxReaders = () => Math.min(MAX_READERS, Math.floor(maxConnections() / 2));
  const events = new EventStream({ history, token, maxReaders });
  const refusals = new Refusals(log);
  const renamed = new RenamedMetrics(log);
  try {
    await openAdmin({
      host,
      port,
      patienceMs: isDevelopment ? PREDECESSOR_MS : 0,
      probes: { '/livez': () => ({ isReady: true }), '/readyz': readiness, '/startupz': () => started(whyNotStarted()) },
      routes: {
        '/status': () => ({ contentType: 'application/json', text: JSON.stringify(history.status(audienceOf(token()))) }),
        '/metrics': async format => (await import('./metrics.ts')).metricsText(pod(), names => renamed.warn(names), format),
        '/': dashboardPage,
      },
      streams: { '/events': response => events.serve(response) },
      token,
      allowedHosts,
      anyHost: ['/metrics'],
      maxConnections,
      onRefused: why => refusals.count(why),
      onFailed: error => log().error({ event: 'admin.failed', err: error }),
      beforeShutdown: () => shutdown.drain().finally(() => events.close()),
      onShutdown: () => shutdown.exit(),
    });
    shutdown.runBy(() => process.emit(SHUTDOWN));
    log().info({ event: 'admin.listening', url: openUrl('http', host, port), host, port });
  } catch (error) {
    shutdown.runBy();
    if (context.isOptional && (error as NodeJS.ErrnoException).code === 'EADDRINUSE') {
      const warning = 'another process has the default admin port: this pool runs without one; set ADMIN_PORT to a free port';
      log().warn({ event: 'admin.port-taken', port, warning });
      return;
    }
    const why = `admin port: ${hostAndPort(host, port)}: cannot listen: ${(error as Error).message}; set ADMIN_PORT to another port, or to 0 (ADMIN_HOST)`;
    shutdown.abort(ExitCode.failed, why);
  }
}

const started = (reason: string | undefined): Readiness =>
  reason === undefined ? { isReady: true } : { isReady: false, reason };

const WARN_INTERVAL_MS = 60_000;

/** Counts connections that were closed or not accepted, and logs the count at most once a minute, so that a flood cannot fill the log. */
class Refusals {
  readonly #log: LogSource;
  #count = 0;
  #quietUntil = Number.NEGATIVE_INFINITY;

  constructor(log: LogSource) {
    this.#log = log;
  }

  count(why: string): void {
    this.#count++;
    if (performance.now() < this.#quietUntil) return;
    this.#quietUntil = performance.now() + WARN_INTERVAL_MS;
    this.#log().warn({ event: 'admin.connections-refused', count: this.#count, why });
    this.#count = 0;
  }
}

/** Warns once about each app metric whose name the kit uses. */
class RenamedMetrics {
  readonly #log: LogSource;
  readonly #warned = new Set<string>();

  constructor(log: LogSource) {
    this.#log = log;
  }

  warn(names: readonly string[]): void {
    const metrics = names.filter(name => !this.#warned.has(name));
    if (metrics.length === 0) return;
    for (const name of metrics) this.#warned.add(name);
    const warning = 'the kit uses the names of these app metrics: /metrics shows them with the prefix app_';
    this.#log().warn({ event: 'metrics.renamed', metrics, warning });
  }
}

const FOLDER = join(import.meta.dirname, 'dashboard');
/** The page shows these exits in the colour of a failure. */
const FAILURES = Object.keys(EXIT_REASONS).filter(reason => isFailure(reason as ExitReason));
/** In the order in which they run. */
const SCRIPTS = [
  'format.js',
  'dom.js',
  'table.js',
  'tiles.js',
  'workers.js',
  'fleet.js',
  'tables.js',
  'ranges.js',
  'plot-kinds.js',
  'plots.js',
  'timeline.js',
  'page.js',
];

let page: Answer | undefined;

/** The dashboard as one self-contained answer: markup, styles, uPlot and our scripts. */
function dashboardPage(): Answer {
  page ??= assemble();
  return page;
}

/** The Content-Security-Policy allows exactly these styles and scripts, and connections to this port only. */
function assemble(): Answer {
  const uplot = dirname(createRequire(import.meta.url).resolve('uplot/package.json'));
  const own = (file: string) => readFileSync(join(FOLDER, file), 'utf8');
  const style = `${readFileSync(join(uplot, 'dist', 'uPlot.min.css'), 'utf8')}\n${own('style.css')}`;
  const script = [
    readFileSync(join(uplot, 'dist', 'uPlot.iife.min.js'), 'utf8'),
    `(() => {\n'use strict';\nconst FAILURES = ${JSON.stringify(FAILURES)};\n${SCRIPTS.map(own).join('\n')}\n})();`,
  ].join('\n');
  const policy = [
    "default-src 'none'",
    `script-src ${hash(script)}`,
    `style-src ${hash(style)}`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ];
  // Functions: a `$&` in a script is no reference.
  const text = own('page.html')
    .replace('/*style*/', () => style)
    .replace('/*script*/', () => script);
  const headers = {
    'Content-Security-Policy': policy.join('; '),
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
  };
  return { contentType: 'text/html; charset=utf-8', text, headers };
}

const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
