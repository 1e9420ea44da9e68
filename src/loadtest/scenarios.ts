/**
 * What each scenario does to the stack: one function each.
 */
import { type Load, pause, users } from './generator.ts';
import { type Body, type Context, holding, keepAlive, loadOf, measure, Observer, warmUp } from './measure.ts';
import { Recorder, type Run, rounded } from './result.ts';
import { saturate } from './saturate.ts';
import type { ScenarioName } from './settings.ts';
import type { Control } from './stack.ts';

export interface Scenario {
  run(context: Context): Promise<Run[]>;
  needsControl: boolean;
  /** Requests routes of the demo app. */
  needsDemo: boolean;
  /** A single failed request fails the test. */
  strict: boolean;
}

const simple = { needsControl: false, needsDemo: false, strict: false };

export const scenarios = {
  steady: { ...simple, run: held('steady', keepAlive) },
  newconn: { ...simple, run: held('newconn', (context, recorder) => loadOf(context, recorder, { fresh: true })) },
  mixed: { ...simple, needsDemo: true, run: held('mixed', (context, recorder) => loadOf(context, recorder, { next: mix() })) },
  'rolling-restart': { ...simple, needsControl: true, strict: true, run: rollingRestart },
  crash: { ...simple, needsControl: true, run: crash },
  policies: { ...simple, needsDemo: true, run: policies },
  sessions: { ...simple, needsDemo: true, strict: true, run: held('sessions', visitors) },
  rollout: { ...simple, needsDemo: true, strict: true, run: held('rollout', everyKind) },
  spike: { ...simple, run: spike },
  saturate: { ...simple, run: saturate },
} satisfies Record<ScenarioName, Scenario>;

/** A run with a load and nothing else. */
function held(label: string, load: (context: Context, recorder: Recorder) => Load): Scenario['run'] {
  return context =>
    measure(
      context,
      label,
      holding(recorder => load(context, recorder)),
    );
}

function visitors({ stack, settings }: Context, recorder: Recorder, rate = settings.rate): Load {
  return users(stack.origin, settings.connections, rate, recorder);
}

/** Keep-alive connections, new ones, and users, for a rollout of the deployment by something else. Each kind has a third of the rate. */
function everyKind(context: Context, recorder: Recorder): Load {
  const kind = { next: () => '/cpu?ms=0', rate: context.settings.rate / 3 };
  return together(
    loadOf(context, recorder, kind),
    loadOf(context, recorder, { ...kind, fresh: true }),
    visitors(context, recorder, kind.rate),
  );
}

/** Keep-alive connections and new ones, with half of the rate each. */
function keptAndFresh(context: Context, recorder: Recorder): Load {
  const rate = context.settings.rate / 2;
  return together(loadOf(context, recorder, { rate }), loadOf(context, recorder, { rate, fresh: true }));
}

const ROLL_EVERY_MS = 3_000;
const KILL_EVERY_MS = 1_000;
/** On a stack that this test has not started: too few for its primary to give up (RESTART_INTENSITY, 10 a minute). */
const MAX_KILLS = 8;

async function rollingRestart(context: Context): Promise<Run[]> {
  const control = controlOf(context);
  const notes: string[] = [];
  const body = holding(
    recorder => keptAndFresh(context, recorder),
    async (recorder, signal) => {
      for (let roll = 1; !signal.aborted; roll++) {
        recorder.mark('restart', `rolling restart ${roll}`);
        const startedAt = performance.now();
        try {
          await control.restart();
          notes.push(`rolling restart ${roll} took ${Math.round(performance.now() - startedAt)} ms`);
        } catch (error) {
          recorder.failed(`rolling restart: ${(error as Error).message}`);
        }
        await pause(ROLL_EVERY_MS, signal);
      }
    },
  );
  return measure(context, 'rolling-restart', body, notes);
}

async function crash(context: Context): Promise<Run[]> {
  const control = controlOf(context);
  const notes = ['a killed worker loses its open requests: failures are expected'];
  const body = holding(
    recorder => loadOf(context, recorder),
    async (recorder, signal) => {
      for (let kills = 0; ; kills++) {
        await pause(KILL_EVERY_MS, signal);
        if (signal.aborted) return;
        if (!context.stack.own && kills === MAX_KILLS)
          return void notes.push(`stopped after ${MAX_KILLS} kills: this test did not start the stack`);
        const ready = (await context.stack.status())?.workers.filter(({ state }) => state === 'ready') ?? [];
        const victim = ready[kills % Math.max(1, ready.length)];
        if (victim === undefined) continue;
        recorder.mark('killed', `worker ${victim.id} killed`);
        await control.kill(victim.pid);
      }
    },
  );
  return measure(context, 'crash', body, notes);
}

const POLICY_ROUNDS = 3;

/** In turns (A B C, A B C, …), so that other work on the machine affects all policies. */
async function policies(context: Context): Promise<Run[]> {
  const { settings, byPolicy, stopped } = context;
  const seconds = settings.durationSeconds / POLICY_ROUNDS;
  const mixed = { next: mix(), fresh: true };
  const parts = new Map([...byPolicy].map(([name, stack]) => [name, { stack, recorder: new Recorder(), busy: [] as number[] }]));
  for (const { stack, recorder } of parts.values()) {
    await warmUp({ ...context, stack });
    recorder.pause(true);
  }
  const observers = new Map<string, Observer>();
  for (let round = 1; round <= POLICY_ROUNDS; round++) {
    for (const [name, { stack, recorder, busy }] of parts) {
      if (stopped.aborted) break;
      recorder.resume();
      const observer = observers.get(name) ?? (await Observer.start(stack, recorder));
      observers.set(name, observer);
      context.watch(`policies: ${name}, round ${round} of ${POLICY_ROUNDS}`, recorder, settings.durationSeconds);
      const before = performance.eventLoopUtilization();
      const load = loadOf({ ...context, stack }, recorder, mixed);
      await pause(seconds * 1000, stopped);
      await load.stop();
      recorder.pause();
      busy.push(performance.eventLoopUtilization(before).utilization);
    }
  }
  const runs: Run[] = [];
  for (const [label, { recorder, busy }] of parts) {
    const observed = await observers.get(label)?.stop();
    if (observed === undefined) continue;
    const generatorUtilization = rounded(busy.reduce((sum, share) => sum + share, 0) / Math.max(1, busy.length));
    runs.push({ label, ...recorder.measured(), ...observed, generatorUtilization, notes: [MIX] });
  }
  return runs;
}

const SPIKE = [
  { share: 0.3, factor: 1, text: 'base load' },
  { share: 0.4, factor: 5, text: 'five times as much' },
  { share: 0.3, factor: 1, text: 'base load again' },
];

async function spike(context: Context): Promise<Run[]> {
  const { durationSeconds, connections, rate } = context.settings;
  const body: Body = async (recorder, signal) => {
    const startedAt = performance.now();
    let endsAtShare = 0;
    for (const { share, factor, text } of SPIKE) {
      if (signal.aborted) return;
      recorder.mark('load', text);
      const load = loadOf(context, recorder, { connections: connections * factor, rate: rate * factor });
      // By the clock: the last responses of a step do not extend the whole.
      endsAtShare += share;
      await pause(startedAt + durationSeconds * 1000 * endsAtShare - performance.now(), signal);
      await load.stop();
    }
  };
  return measure(context, 'spike', body);
}

const MIX = '90 % of the requests take 1 ms of CPU, 6 % wait for 100 ms, 4 % take 30 ms of CPU';

/** Paths, in the same order every hundred requests. */
function mix(): () => string {
  let count = 0;
  return () => {
    const hundredth = (count++ * 61) % 100;
    if (hundredth < 90) return '/cpu?ms=1';
    return hundredth < 96 ? '/slow?ms=100' : '/cpu?ms=30';
  };
}

function together(...loads: Load[]): Load {
  return { stop: async () => void (await Promise.all(loads.map(load => load.stop()))) };
}

function controlOf({ stack }: Context): Control {
  if (stack.control === undefined) throw new Error(`${stack.description} has no control socket in reach`);
  return stack.control;
}
