/**
 * What is behind the admin port: probes, status, metrics, dashboard; and the shutdown, which terminus conducts there.
 */
import type { LogSource } from '../../log.ts';
import { ExitCode } from '../../messages.ts';
import type { Member } from '../fleet.ts';
import type { Shutdown } from '../shutdown.ts';
import { openAdmin, SHUTDOWN } from './admin-server.ts';
import { EventStream } from './event-stream.ts';
import type { History } from './history.ts';
import type { Pod } from './status.ts';

export interface Parts {
  host: string;
  port: number;
  log: LogSource;
  history: History;
  shutdown: Shutdown;
  pod: () => Pod;
  /** Why not; undefined for yes. */
  notReady: () => string | undefined;
  notStarted: () => string | undefined;
  members: () => Member[];
}

/** Opens it, or begins to end the primary where it can't. */
export async function openAdminPort(parts: Parts): Promise<void> {
  const { host, port, log, history, shutdown, pod, notReady, notStarted, members } = parts;
  const events = new EventStream(history, members);
  try {
    await openAdmin({
      host,
      port,
      probes: { '/livez': () => undefined, '/readyz': notReady, '/startupz': notStarted },
      routes: {
        '/status': () => ({ contentType: 'application/json', text: JSON.stringify(history.status()) }),
        '/metrics': async () => (await import('./metrics.ts')).metricsText(pod()),
        '/': async () => (await import('./dashboard.ts')).dashboardPage(),
      },
      streams: { '/events': response => events.serve(response) },
      beforeShutdown: () => shutdown.drain().finally(() => events.close()),
      onShutdown: async () => shutdown.exit(),
    });
    shutdown.conductedBy(() => process.emit(SHUTDOWN));
    log().info({ event: 'admin.listening', host, port });
  } catch (error) {
    shutdown.conductedByItself();
    const why = `admin port: ${host}:${port} can't be listened on: ${(error as Error).message} (ADMIN_HOST, ADMIN_PORT)`;
    shutdown.abort(ExitCode.failed, why);
  }
}
