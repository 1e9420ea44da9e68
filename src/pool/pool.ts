/**
 * The pool of workers, made of its parts. The first worker is forked before this file is loaded (first-fork.ts).
 */
import type { Balancing } from '../balancing/balancing.ts';
import { beforeStartEnvironment, type Loading } from '../config/inherited.ts';
import type { LogSource } from '../log/log.ts';
import type { LogOutputs } from '../log/output.ts';
import type { Emit } from '../protocol/events.ts';
import type { ToPrimary } from '../protocol/messages.ts';
import { type ReadText, readerBelow, type UsageFiles } from '../resources/cgroup.ts';
import { readHeadroom, readUsage } from '../resources/usage.ts';
import { Retained } from '../state/broadcast.ts';
import type { WorkerEvent } from './effects.ts';
import { type Prepared, taking } from './first-fork.ts';
import { Moves } from './moves.ts';
import type { Rebalancing } from './rebalancing.ts';
import { Resizer } from './resizer.ts';
import type { Settings } from './settings.ts';
import { forkWorker, isInspected, type SpawnOptions } from './spawn.ts';
import { Supervisor } from './supervisor.ts';
import { WorkerProcess } from './worker-process.ts';

export interface Pool {
  settings: Settings;
  resizer: Resizer;
  moves: Moves;
  supervisor: Supervisor;
  balancing: Balancing;
  retained: Retained;
  log: LogSource;
  emit: Emit;
  outputs: LogOutputs;
  /** With BEFORE_START: what its process is started with. The supervisor must be started once it has ended. */
  processBefore?: (loader?: Loading['loader']) => SpawnOptions;
}

/** Starts the pool that has been prepared. */
export function startPool(prepared: Prepared, emit: Emit): Pool {
  const { settings, detected, balancing, outputs, log, inspectorPorts, spawnOptionsOf, beforeStart } = prepared;
  const { config, nodeOptions } = settings;
  let { first } = prepared;
  const retained = new Retained(config.broadcastRetained);
  const resizer = new Resizer(config, nodeOptions, detected, log, emit);
  let oomKills: OomKills | undefined;
  let loading: Omit<Loading, 'module'> = { asMain: false };
  /** Workers from now on load the app in the way that one of them has found to be needed. */
  const loadAgain = ({ asMain, loader, why }: LoadAgainMessage) => {
    if (asMain && !loading.asMain) log().info({ event: 'app.run-as-main', why });
    if (loader !== undefined && loader !== loading.loader) log().info({ event: 'app.typescript-loader', loader, why });
    loading = { asMain: loading.asMain || asMain, loader: loader ?? loading.loader };
  };
  let rebalancing: Rebalancing | undefined;
  const loadRebalancing = async () => {
    const { Rebalancing } = await import('./rebalancing.ts');
    rebalancing ??= new Rebalancing({
      workers: () => supervisor.handles,
      wanted: () => supervisor.wanted,
      policy: () => balancing.policy,
      config: () => settings.config,
      emit,
      now: () => performance.now(),
    });
  };
  /** From the first time that two workers serve: when one of them fails, only one does. */
  const rebalance = async (event: WorkerEvent) => {
    if (!concernsBalance(event) || (rebalancing === undefined && supervisor.serving.length < 2)) return;
    // An update may have replaced the files of the kit: then nothing is rebalanced.
    if (rebalancing === undefined) await loadRebalancing().catch(() => undefined);
    // What a slow worker has not taken yet, it does not report.
    if (event.type === 'exited' || moves.underWay === 0) rebalancing?.onEvent(event);
  };
  const moves = new Moves<WorkerProcess>(
    from => rebalancing?.takersFor(from) ?? supervisor.serving,
    (from, to) => rebalancing?.onMoved(from, to),
  );
  const supervisor: Supervisor = new Supervisor(config, resizer.sizing, {
    fork: (worker, listener) => {
      const { id, generation } = worker;
      const inspector = inspectorPorts?.assign(generation);
      const { workerCommandLine: commandLine, workerNodeOptions: nodeOptions } = resizer;
      const ahead = first;
      first = undefined;
      const fork = () =>
        forkWorker(
          spawnOptionsOf(id, generation, {
            commandLine,
            nodeOptions,
            loading: { ...loading, module: settings.release.module },
            inherited: balancing.inherited,
            isInspected: inspector !== undefined,
          }),
        );
      const options = {
        fork: ahead ?? fork,
        sessionKeys: () => settings.sessionKeys(),
        retained: () => retained.forWorkers,
        listeners: balancing.enter(id, resizer.sizing.workers),
        outputs: outputs.sinksOf(id),
        moves,
        isInspected: inspector !== undefined || isInspected(commandLine, nodeOptions),
        inspector: inspector?.at,
      };
      const handle = new WorkerProcess(worker, options, {
        ...listener,
        onEvent: event => {
          if (event.type === 'message' && event.message.type === 'load-again') loadAgain(event.message);
          listener.onEvent(event);
          void rebalance(event);
        },
      });
      inspector?.take(handle);
      return handle;
    },
    bind: port => taking(port, log, () => balancing.rebind(port)),
    onChange: (handles, wanted) => balancing.follow(handles, wanted),
    headroom: () => readHeadroom(readerBelow(config.sizingRoot), resizer.limits),
    whoKilled: () => oomKills?.whoKilled() ?? 'killed',
    emit,
  });
  if (beforeStart === undefined) supervisor.start();
  oomKills = new OomKills(readerBelow(), resizer.limits.usage);
  const pool = { settings, resizer, moves, supervisor, balancing, retained, log, emit, outputs };
  if (beforeStart === undefined) return pool;
  const processBefore = (loader: Loading['loader']) =>
    spawnOptionsOf(0, 1, {
      commandLine: resizer.workerCommandLine,
      nodeOptions: resizer.workerNodeOptions,
      loading: { module: beforeStart, asMain: false, loader },
      inherited: { fds: [], environment: beforeStartEnvironment },
    });
  return { ...pool, processBefore };
}

const concernsBalance = (event: WorkerEvent) =>
  event.type === 'exited' || (event.type === 'message' && event.message.type === 'stats');

type LoadAgainMessage = Extract<ToPrimary, { type: 'load-again' }>;

/** Distinguishes the kernel's kills for lack of memory from others, by the counter of the cgroup. */
class OomKills {
  readonly #kills: () => number | null;
  #explained: number | null;

  constructor(read: ReadText, files: UsageFiles) {
    this.#kills = () => readUsage(read, files).oomKills;
    this.#explained = this.#kills();
  }

  /** Called once for each worker that was killed; a kill by the kernel explains one of them. */
  whoKilled(): 'oom' | 'killed' {
    const kills = this.#kills();
    if (kills === null || this.#explained === null || kills <= this.#explained) return 'killed';
    this.#explained++;
    return 'oom';
  }
}
