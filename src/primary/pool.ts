/**
 * What the first worker needs to start, and nothing else: it is forked before the rest of the primary is loaded (10 ms).
 */
import { Balancing, BOARD_FD } from '../balancing/balancing.ts';
import { createLog, type LogSource } from '../log.ts';
import { Retained } from '../state/retained.ts';
import { Resizer } from './resizer.ts';
import { Settings } from './settings.ts';
import { Supervisor } from './supervisor.ts';
import { WorkerHandle } from './worker-handle.ts';

/** What main.ts knows of this installation. */
export interface Installation {
  /** The file that a worker runs. */
  entry: string;
  /** Folder of compiled code: a worker then starts without stripping types (see main.ts). */
  compileCache: string;
}

export interface Pool {
  settings: Settings;
  resizer: Resizer;
  supervisor: Supervisor;
  balancing: Balancing;
  retained: Retained;
  log: LogSource;
}

/**
 * Reads the settings, sizes the pool and forks.
 * @throws ConfigError
 */
export function startPool({ entry, compileCache }: Installation): Pool {
  const settings = new Settings();
  const { config, nodeOptions } = settings;
  const log = createLog(config.logLevel, { pid: process.pid });
  const balancing = new Balancing(config.policy);
  const board = { BOSUN_BOARD: balancing.hasBoard ? String(BOARD_FD) : '' };
  const retained = new Retained(config.broadcastRetained);
  const resizer = new Resizer(config, nodeOptions, entry, log);
  const supervisor = new Supervisor(config, log, resizer.sizing, (id, generation, listener) => {
    balancing.clear(id);
    const environment = { ...settings.workerEnvironment(resizer.workerNodeOptions, compileCache, id), ...board };
    const heapMb = resizer.sizing.memory.heapPerWorkerMb;
    const [sessionKeys, kept] = [() => settings.sessionKeys(), () => retained.forWorkers];
    return new WorkerHandle({ id, generation, heapMb, environment, sessionKeys, retained: kept }, listener);
  });
  supervisor.tick();
  return { settings, resizer, supervisor, balancing, retained, log };
}
