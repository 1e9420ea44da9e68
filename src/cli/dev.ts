/**
 * `bosun dev`: what its options mean for the primary, which this process becomes.
 */
import { ConfigError, readEnvironment } from '../config/config.ts';
import { devEnvironment, type InspectorAddress } from '../config/inherited.ts';
import { workingDirectory } from '../config/working-directory.ts';
import { CliExitCode } from '../protocol/exit.ts';
import { CommandError } from './client.ts';

export interface DevOptions {
  json?: true;
  socket?: string;
  workers?: number;
  watch?: string[];
  /** Empty or true without a value. */
  inspect?: string | true;
  inspectBrk?: string | true;
  open?: true;
}

/** As in Node.js. */
const INSPECTOR = { host: '127.0.0.1', port: 9229 };
/** Variables that are set for development, unless this process has them already; `.env` is that of the app in production, too. */
const ENVIRONMENT = {
  /** An open event stream delays neither Ctrl-C nor the next reload. */
  SHUTDOWN_TIMEOUT_MS: '500',
  /** The dashboard shows the errors of the app. */
  ADMIN_HOST: '127.0.0.1',
};

/** Sets the environment of the primary. @throws ConfigError in production */
export async function prepareDevelopment(options: DevOptions): Promise<void> {
  const { workers = 1, watch = [], inspect, inspectBrk, open = false, json = false, socket } = options;
  const { environment, fromDotenv } = readEnvironment(process.env, workingDirectory());
  if (environment.NODE_ENV === 'production') {
    const from = fromDotenv.has('NODE_ENV') ? '.env' : 'environment';
    throw new ConfigError([`NODE_ENV must not be "production" for bosun dev (${from}): unset it, or run bosun start`]);
  }
  const address = inspectBrk ?? inspect;
  Object.assign(process.env, {
    ...ENVIRONMENT,
    ...process.env,
    ...(socket !== undefined && { CONTROL_SOCKET: socket }),
    NODE_CLUSTER_WORKERS: String(workers),
    SHUTDOWN_DELAY_MS: '0',
    ...devEnvironment({
      watch,
      open,
      json,
      inspect: address === undefined ? undefined : inspectorAddress(address === true ? '' : address, inspectBrk !== undefined),
    }),
  });
}

/** From `HOST:PORT`, `PORT` or `HOST`, as in Node.js. */
function inspectorAddress(text: string, isAwaited: boolean): InspectorAddress {
  const [, host = '', digits = ''] = /^(?:(.*?)(?::|$))?(\d*)$/.exec(/^\d+$/.test(text) ? `:${text}` : text) ?? [];
  const port = digits === '' ? INSPECTOR.port : Number(digits);
  if (!(port >= 1 && port <= 65_535)) throw new CommandError(`--inspect must be [HOST:]PORT, got "${text}"`, CliExitCode.usage);
  return { host: host.replace(/^\[(.*)\]$/, '$1') || INSPECTOR.host, port, isAwaited };
}
