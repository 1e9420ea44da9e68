/**
 * What is behind the admin port: probes, status, metrics, dashboard; and the shutdown, which terminus conducts there.
 */
import { hostAndPort } from '../config/parse.ts';
import type { LogSource } from '../log/log.ts';
import { adminConnections } from '../primary/connection-limit.ts';
import type { Shutdown } from '../primary/shutdown.ts';
import type { Peer } from '../protocol/api.ts';
import { audienceOf } from '../protocol/audience.ts';
import { ExitCode } from '../protocol/exit.ts';
import { fileLimit } from '../resources/usage.ts';
import type { History } from './history.ts';
import type { Readiness } from './readiness.ts';
import { openAdmin, SHUTDOWN } from './server.ts';
import { EventStream, MOST_READERS } from './sse.ts';
import type { Pod } from './status.ts';

export interface Parts {
  host: string;
  port: number;
  /** The current ADMIN_TOKEN. */
  token: () => string | undefined;
  log: LogSource;
  history: History;
  shutdown: Shutdown;
  pod: () => Pod;
  readiness: () => Readiness;
  /** Why not; undefined for yes. */
  notStarted: () => string | undefined;
  peers: () => Peer[];
}

/** Opens it, or begins to end the primary where it can't. */
export async function openAdminPort(parts: Parts): Promise<void> {
  const { host, port, token, log, history, shutdown, pod, readiness, notStarted, peers } = parts;
  const descriptors = fileLimit()?.soft ?? Number.POSITIVE_INFINITY;
  const mostConnections = () => adminConnections(descriptors, pod().supervisor.wanted);
  const mostReaders = () => Math.min(MOST_READERS, Math.floor(mostConnections() / 2));
  const events = new EventStream({ history, fleet: peers, token, mostReaders });
  const refusals = new Refusals(log);
  const renamed = new Renamed(log);
  try {
    await openAdmin({
      host,
      port,
      probes: { '/livez': () => ({ isReady: true }), '/readyz': readiness, '/startupz': () => started(notStarted()) },
      routes: {
        '/status': () => ({ contentType: 'application/json', text: JSON.stringify(history.status(audienceOf(token()))) }),
        '/metrics': async () => (await import('./metrics.ts')).metricsText(pod(), names => renamed.tell(names)),
        '/': async () => (await import('./dashboard.ts')).dashboardPage(),
      },
      streams: { '/events': response => events.serve(response) },
      token,
      mostConnections,
      onRefused: why => refusals.count(why),
      onFailed: error => log().error({ event: 'admin.failed', err: error }),
      beforeShutdown: () => shutdown.drain().finally(() => events.close()),
      onShutdown: () => shutdown.exit(),
    });
    shutdown.runBy(() => process.emit(SHUTDOWN));
    log().info({ event: 'admin.listening', host, port });
  } catch (error) {
    shutdown.runBy();
    const why = `admin port: ${hostAndPort(host, port)}: cannot listen: ${(error as Error).message} (ADMIN_HOST, ADMIN_PORT)`;
    shutdown.abort(ExitCode.failed, why);
  }
}

const started = (objection: string | undefined): Readiness =>
  objection === undefined ? { isReady: true } : { isReady: false, reason: objection };

const WARN_EVERY_MS = 60_000;

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
    this.#quietUntil = performance.now() + WARN_EVERY_MS;
    this.#log().warn({ event: 'admin.connections-refused', count: this.#count, why });
    this.#count = 0;
  }
}

/** Warns once about each app metric whose name the kit uses. */
class Renamed {
  readonly #log: LogSource;
  readonly #told = new Set<string>();

  constructor(log: LogSource) {
    this.#log = log;
  }

  tell(names: readonly string[]): void {
    const metrics = names.filter(name => !this.#told.has(name));
    if (metrics.length === 0) return;
    for (const name of metrics) this.#told.add(name);
    const warning = 'the kit uses the names of these app metrics: /metrics shows them with the prefix app_';
    this.#log().warn({ event: 'metrics.renamed', metrics, warning });
  }
}
