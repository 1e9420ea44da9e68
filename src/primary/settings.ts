/**
 * The settings of this pod: read at the start, read again by a rolling restart, and what of them goes to the workers.
 */
import {
  type Config,
  ConfigError,
  type Environment,
  handOver,
  readEnvironment,
  readSettings,
  type SecretTexts,
  usesRedis,
} from '../config.ts';
import { generateSessionKey } from '../state/session-keys.ts';

/** What a running primary can't change: its sockets are open, and its log is. */
const FIXED = {
  host: 'HOST',
  port: 'PORT',
  adminHost: 'ADMIN_HOST',
  adminPort: 'ADMIN_PORT',
  policy: 'NODE_CLUSTER_SCHED_POLICY',
  controlSocket: 'CONTROL_SOCKET',
  diagnosticsDir: 'DIAGNOSTICS_DIR',
  sizingRoot: 'SIZING_ROOT',
  logLevel: 'LOG_LEVEL',
  broadcastRetained: 'BROADCAST_RETAINED',
  broadcastDurable: 'BROADCAST_DURABLE',
  workerHeartbeatTimeoutMs: 'WORKER_HEARTBEAT_TIMEOUT_MS',
} as const satisfies Partial<Record<keyof Config, string>>;

export class Settings {
  #environment: Environment;
  #config: Config;
  #fromFiles: SecretTexts;
  #generatedKeys: string[] | undefined;

  /** @throws ConfigError */
  constructor() {
    const { environment, fromDotenv } = readEnvironment();
    this.#environment = environment;
    const { config, fromFiles } = readSettings(environment, fromDotenv);
    this.#config = config;
    this.#fromFiles = fromFiles;
  }

  get config(): Config {
    return this.#config;
  }

  get nodeOptions(): string {
    return this.#environment.NODE_OPTIONS ?? '';
  }

  /** What the platform says that it waits after SIGTERM, where it says so (TERMINATION_GRACE_PERIOD_SECONDS). */
  get gracePeriodSeconds(): number | undefined {
    const seconds = Number(this.#environment.TERMINATION_GRACE_PERIOD_SECONDS);
    return seconds > 0 ? seconds : undefined;
  }

  /** For the next worker. */
  workerEnvironment(nodeOptions: string, compileCache: string, id: number): Environment {
    const own = { NODE_OPTIONS: nodeOptions, BOSUN_WORKER_ID: String(id), ...handOver(this.#fromFiles) };
    return { NODE_COMPILE_CACHE: compileCache, ...this.#environment, ...own };
  }

  /** Empty with Redis: the workers share keys through it. Generated ones stay the same until the primary ends. */
  sessionKeys(): string[] {
    if (this.#config.sessionKeys !== undefined) return this.#config.sessionKeys;
    if (usesRedis(this.#config)) return [];
    this.#generatedKeys ??= [generateSessionKey()];
    return this.#generatedKeys;
  }

  get areSessionKeysGenerated(): boolean {
    return this.#config.sessionKeys === undefined && !usesRedis(this.#config);
  }

  /**
   * Reads `.env` and secret files again.
   * @throws ConfigError where they are malformed, or change what needs a new start; the settings stay as they were
   */
  reload(): void {
    const { environment, fromDotenv } = readEnvironment();
    const { config, fromFiles } = readSettings(environment, fromDotenv);
    const changed = Object.entries(FIXED).filter(
      ([key]) => JSON.stringify(config[key as keyof typeof FIXED]) !== JSON.stringify(this.#config[key as keyof typeof FIXED]),
    );
    if (changed.length > 0)
      throw new ConfigError(changed.map(([, name]) => `${name} can't change while the primary runs: start it anew`));
    this.#environment = environment;
    this.#config = config;
    this.#fromFiles = fromFiles;
  }
}
