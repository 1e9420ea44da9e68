/**
 * The settings of this pod: read at the start and again by each rolling restart, with everything that the workers of a generation start with.
 */

import { isDemoByDefault, moduleFile } from '../config/app-module.ts';
import {
  type Config,
  ConfigError,
  type Environment,
  fixedChanges,
  readEnvironment,
  readSettings,
  type SecretTexts,
} from '../config/config.ts';
import { secretsEnvironment } from '../config/inherited.ts';
import { nodeOptions } from '../config/parse.ts';
import { redisEnvironment, usesRedis } from '../config/redis-address.ts';
import { generateSessionKey } from '../config/secrets.ts';
import { type Service, serviceOf } from '../config/service.ts';
import { isThere, type Release, releaseAt, workingDirectory } from '../config/working-directory.ts';
import { judgeNodeOptions, type NodeOptions } from '../resources/node-options.ts';

/** Everything that a generation of workers starts with. */
interface Loaded {
  environment: Environment;
  config: Config;
  fromFiles: SecretTexts;
  release: Release;
  nodeOptions: NodeOptions;
  nodeOptionWarnings: readonly string[];
}

export class Settings {
  readonly #directory = workingDirectory();
  #loaded: Loaded;
  /** Stays the same while the primary runs: what it has in Redis begins with the name. */
  readonly service: Service;
  #generatedKeys: string[] | undefined;

  /** @throws ConfigError */
  constructor() {
    this.#loaded = this.#load();
    const { serviceName, appModule } = this.config;
    this.service = serviceOf(serviceName, this.#directory, moduleFile(appModule, this.#directory));
  }

  get config(): Config {
    return this.#loaded.config;
  }

  get nodeOptions(): NodeOptions {
    return this.#loaded.nodeOptions;
  }

  /** Warnings about Node.js options. */
  get nodeOptionWarnings(): readonly string[] {
    return this.#loaded.nodeOptionWarnings;
  }

  /** How long the platform waits after SIGTERM, if TERMINATION_GRACE_PERIOD_SECONDS says so. */
  get gracePeriodSeconds(): number | undefined {
    const seconds = Number(this.#loaded.environment.TERMINATION_GRACE_PERIOD_SECONDS);
    return seconds > 0 ? seconds : undefined;
  }

  /** What the next worker runs: the release of its generation, or, if that has been removed, the current one. */
  get release(): Release {
    if (!isThere(this.#loaded.release)) this.#loaded = { ...this.#loaded, release: releaseOf(this.#directory, this.config) };
    return this.#loaded.release;
  }

  /** Whether no app is named, and so the demo app is served. */
  get isDemoByDefault(): boolean {
    return isDemoByDefault(this.config.appModule, moduleFile(this.config.appModule, this.#directory));
  }

  /** The variables of this process and of `.env`. */
  get environment(): Environment {
    return this.#loaded.environment;
  }

  /** Whether SIGUSR2 ends the pool: nodemon restarts a program with it. In production, and with DIAGNOSTICS_DIR, it writes heap snapshots. */
  get endsOnUsr2(): boolean {
    return !this.config.production && !this.#loaded.environment.DIAGNOSTICS_DIR;
  }

  /** For workers: the secrets that were read from files, which may have changed since, and the whole REDIS_URL. */
  get secrets(): Environment {
    return { ...secretsEnvironment(this.#loaded.fromFiles), ...redisEnvironment(this.#loaded, this.environment) };
  }

  /** Empty with Redis, through which the workers share keys. Generated keys stay the same until the primary exits. */
  sessionKeys(): string[] {
    if (this.config.sessionKeys !== undefined) return this.config.sessionKeys;
    if (usesRedis(this.config)) return [];
    this.#generatedKeys ??= [generateSessionKey()];
    return this.#generatedKeys;
  }

  get areSessionKeysGenerated(): boolean {
    return this.config.sessionKeys === undefined && !usesRedis(this.config);
  }

  /**
   * Resolves the deployment in the working directory again, and reads its `.env` and the secret files.
   * @returns a function that undoes it
   * @throws ConfigError if a setting is invalid, or cannot change at run time; the settings then stay as they were
   */
  reload(): () => void {
    const before = this.#loaded;
    enter(this.#directory);
    const loaded = this.#load();
    const changed = fixedChanges(this.config, loaded.config);
    if (changed.length > 0) throw new ConfigError(changed.map(name => `${name} cannot change at run time; restart the primary`));
    this.#loaded = loaded;
    return () => {
      this.#loaded = before;
    };
  }

  #load(): Loaded {
    const { environment: given, fromDotenv } = readEnvironment(process.env, this.#directory);
    const nodeOptions = nodeOptionsOf(given);
    const { refused, warnings, maxHeaderSize } = judgeNodeOptions(nodeOptions, given.MAX_HEADER_BYTES || undefined);
    const environment = maxHeaderSize === undefined ? given : { ...given, MAX_HEADER_BYTES: maxHeaderSize };
    const { config, fromFiles } = readSettingsWith(refused, environment, fromDotenv);
    const release = releaseOf(this.#directory, config);
    return { environment, config, fromFiles, release, nodeOptions, nodeOptionWarnings: warnings };
  }
}

/** @throws ConfigError */
function nodeOptionsOf({ NODE_OPTIONS = '', WORKER_NODE_OPTIONS = '' }: Environment): NodeOptions {
  const split = (name: string, text: string) => {
    try {
      return nodeOptions(text);
    } catch (error) {
      throw new ConfigError([`${name} must be ${(error as Error).message}, got ${JSON.stringify(text)}`]);
    }
  };
  return {
    environment: split('NODE_OPTIONS', NODE_OPTIONS),
    commandLine: process.execArgv,
    workers: split('WORKER_NODE_OPTIONS', WORKER_NODE_OPTIONS),
  };
}

/** @throws ConfigError with these `problems`, and with all others */
function readSettingsWith(
  problems: readonly string[],
  ...given: Parameters<typeof readSettings>
): ReturnType<typeof readSettings> {
  let read: ReturnType<typeof readSettings>;
  try {
    read = readSettings(...given);
  } catch (error) {
    throw error instanceof ConfigError ? new ConfigError([...problems, ...error.problems]) : error;
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return read;
}

/** @throws ConfigError */
function enter(directory: string): void {
  try {
    process.chdir(directory);
  } catch (error) {
    throw new ConfigError([`the working directory ${directory} must exist, got ${(error as NodeJS.ErrnoException).code}`]);
  }
}

/** An app outside the working directory does not depend on it. @throws ConfigError if no module is found */
function releaseOf(directory: string, { appModule }: Config): Release {
  const file = moduleFile(appModule, directory);
  try {
    return releaseAt(directory, file);
  } catch {
    return releaseAt('/', file);
  }
}
