/**
 * What this worker does when a server of the app listens, or closes (adopt.ts).
 */
import type { Server } from 'node:http';
import type { Config } from '../config/config.ts';
import type { LogSource } from '../log/log.ts';
import type { AdoptedServer } from '../protocol/messages.ts';
import type { AdoptionEvent, Listening } from './adopt.ts';
import { CANNOT_SERVE, OTHER_PORT } from './adopt-rules.ts';
import { AppError, reportOf } from './error-report.ts';
import type { Serving } from './serving.ts';
import type { Shutdown } from './shutdown.ts';

/** The parts of the worker that act on it. */
interface Context {
  config: Config;
  /** The app's, as it is named in errors. */
  module: string;
  log: LogSource;
  serving: Serving;
  shutdown: Shutdown;
}

export function onAppListens(event: AdoptionEvent, { server, kind, port }: Listening, context: Context): void {
  const { config, module, log, serving, shutdown } = context;
  switch (event) {
    case 'serve':
      serving.takeOver({ serve: { server: server as Server }, description: '' });
      break;
    case 'closed':
      if (!shutdown.hasBegun) shutdown.onLeave('server.close()');
      break;
    case 'own':
    case 'admin':
    case 'taken':
      log().warn({ event: 'app.listens', port, warning: OTHER_PORT[event] });
      break;
    case 'name-port':
      shutdown.namePort(port === 0 || port === config.adminPort ? config.port : port);
      break;
    case 'refuse':
      refuse(`${module} ${CANNOT_SERVE} port ${port}, got ${kind}`, context);
      break;
    default:
      event satisfies never;
  }
}

function refuse(why: string, { serving, shutdown }: Context): void {
  const error = new AppError(why, { own: why });
  shutdown.cause = error;
  if (serving.isOpen) shutdown.onThrown(error);
  else shutdown.fail({ type: 'failed', stage: 'app', ...reportOf(error, true) });
}

/** For the log of the primary. */
export function adoptedOf({ kind, port, host }: Listening): AdoptedServer {
  return { kind: kind === 'https' ? 'https' : 'http', port, ...(host !== null && { host }) };
}
