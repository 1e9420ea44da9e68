/**
 * What is done to the stack: one function per scenario.
 */
import type { Load } from './generator.ts';
import { type Body, type Context, holding, keepAlive, loadOf, measure, pause, warmUp } from './measure.ts';
import { Observer } from './observer.ts';
import { Recorder, rounded } from './recorder.ts';
import type { Run } from './result.ts';
import { saturate } from './saturate.ts';
import type { ScenarioName } from './settings.ts';
import type { Control } from './stack.ts';
import { users } from './users.ts';

export interface Scenario {
  run(context: Context): Promise<Run[]>;
  needsControl: boolean;
  /** Routes of the demo app, where no URL names another. */
  needsDemo: boolean;
  /** A single failed request fails the test. */
  strict: boolean;
}

const simple = { needsControl: false, needsDemo: false, strict: false };

export const scenarios: Record<ScenarioName, Scenario> = {
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
};

/** A run in which nothing but the load happens here. */
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

/** Kept connections, new ones, and users: while somebody else rolls the deployment out. Each kind has a third of the rate. */
function everyKind(context: Context, recorder: Recorder): Load {
  const kind = { next: () => '/cpu?ms=0', rate: context.settings.rate / 3 };
  return together(
    loadOf(context, recorder, kind),
    loadOf(context, recorder, { ...kind, fresh: true }),
    visitors(context, recorder, kind.rate),
  );
}

/** Kept connections and new ones, half of the rate each. */
function keptAndFresh(context: Context, recorder: Recorder): Load {
  const rate = context.settings.rate / 2;
  return together(loadOf(context, recorder, { rate }), loadOf(context, recorder, { rate, fresh: true }));
}

/** Time between two rolls, and between two kills. */
const ROLL_EVERY_MS = 3_000;
const KILL_EVERY_MS = 1_000;
/** Of another's stack: fewer than make its primary give up (RESTART_INTENSITY, 10 a minute). */
const MOST_KILLS = 8;

async function rollingRestart(context: Context): Promise<Run[]> {
  const control = controlOf(context);
  const notes: string[] = [];
  const body = holding(
    recorder => keptAndFresh(context, recorder),
    async (recorder, over) => {
      for (let roll = 1; !over.aborted; roll++) {
        recorder.event('restart', `rolling restart ${roll}`);
        const startedAt = performance.now();
        try {
          await control.restart();
          notes.push(`rolling restart ${roll} took ${Math.round(performance.now() - startedAt)} ms`);
        } catch (error) {
          recorder.failed(`rolling restart: ${(error as Error).message}`);
        }
        await pause(ROLL_EVERY_MS, over);
      }
    },
  );
  return measure(context, 'rolling-restart', body, notes);
}

async function crash(context: Context): Promise<Run[]> {
  const control = controlOf(context);
  const notes = ['a killed worker loses the requests that it was answering: failures are expected here'];
  const body = holding(
    recorder => loadOf(context, recorder),
    async (recorder, over) => {
      for (let kills = 0; ; kills++) {
        await pause(KILL_EVERY_MS, over);
        if (over.aborted) return;
        if (!context.stack.own && kills === MOST_KILLS)
          return void notes.push(`stopped after ${MOST_KILLS} kills: the stack is yours`);
        const ready = (await context.stack.status())?.workers.filter(({ state }) => state === 'ready') ?? [];
        const victim = ready[kills % Math.max(1, ready.length)];
        if (victim === undefined) continue;
        recorder.event('killed', `worker ${victim.id} killed`);
        await control.kill(victim.pid);
      }
    },
  );
  return measure(context, 'crash', body, notes);
}

const POLICY_ROUNDS = 3;

/** A B C, A B C, …: what the machine does meanwhile happens to all of them. */
async function policies(context: Context): Promise<Run[]> {
  const { settings, byPolicy, stopped } = context;
  const seconds = settings.durationSeconds / POLICY_ROUNDS;
  const wish = { next: mix(), fresh: true };
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
      const load = loadOf({ ...context, stack }, recorder, wish);
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
  const body: Body = async (recorder, over) => {
    const startedAt = performance.now();
    let endsAtShare = 0;
    for (const { share, factor, text } of SPIKE) {
      if (over.aborted) return;
      recorder.event('load', text);
      const load = loadOf(context, recorder, { connections: connections * factor, rate: rate * factor });
      // By the clock: what the last answers of a step take is not added to the whole.
      endsAtShare += share;
      await pause(startedAt + durationSeconds * 1000 * endsAtShare - performance.now(), over);
      await load.stop();
    }
  };
  return measure(context, 'spike', body);
}

const MIX = '90 % of the requests take 1 ms of CPU, 6 % wait for 100 ms, 4 % take 30 ms of CPU';

/** Paths, in an order that is the same every hundred requests. */
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
