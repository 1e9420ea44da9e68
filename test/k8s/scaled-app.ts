/**
 * An app under a load that changes, and an autoscaler that sets its number of pods: in virtual time, in steps of a second.
 */
import { Behavior, proposal, type SeenPod, SYNC_S, type Target, targetOf } from './autoscaler.ts';
import type { Manifest } from './manifests.ts';

export interface Setting {
  autoscaler: Manifest | undefined;
  /** Of a pod, in cores: its request, and the most that its node leaves it, at most its limit. */
  request: number;
  most: number;
  /** The load at a time in seconds: cores that all requests together need. */
  load: (second: number) => number;
  seconds: number;
  /** When the controller looks first: its rhythm is not that of the metrics. */
  phase?: number;
}

/** From the creation of a pod to its readiness, in seconds. */
const START_S = 10;
/** The scheduler, the image, the container: no metric yet. */
const PENDING_S = 2;
/** metrics-server and Prometheus look this often, and measure over as long. */
const METRIC_S = 15;
/** A pod of the base is removed after a drain of about so long; it takes no new connections meanwhile. */
const DRAIN_S = 10;
/** CPU time of an idle pod, in cores, and of one that loads. */
const IDLE = 0.01;
const LOADING = 1;

/** One second of the app. */
export interface Moment {
  second: number;
  load: number;
  /** Pods that the autoscaler wants, and those that are ready. */
  wanted: number;
  ready: number;
  /** Cores that the load needs and the ready pods do not have. */
  lacking: number;
}

interface Pod extends SeenPod {
  /** Cores in each of its last seconds. */
  used: number[];
  endsAt?: number;
}

export function simulate({ autoscaler, request, most, load, seconds, phase = 0 }: Setting): Moment[] {
  const target = targetOf(autoscaler);
  const behavior = new Behavior(autoscaler);
  const create = (now: number): Pod => ({
    isPending: true,
    createdAt: now,
    readyAt: undefined,
    request,
    metric: undefined,
    used: [],
  });
  let pods = [create(-600), create(-600), create(-600)];
  for (const pod of pods) Object.assign(pod, { isPending: false, readyAt: -590 });
  const moments: Moment[] = [];
  for (let now = 0; now < seconds; now++) {
    for (const pod of pods) {
      pod.isPending = now < pod.createdAt + PENDING_S;
      if (now >= pod.createdAt + START_S) pod.readyAt ??= now;
    }
    const ready = pods.filter(({ readyAt }) => readyAt !== undefined);
    const share = load(now) / ready.length;
    for (const pod of pods) {
      const wanted = pod.readyAt === undefined ? LOADING : pod.endsAt === undefined ? IDLE + share : IDLE;
      pod.used.push(pod.isPending ? 0 : Math.min(most, wanted));
      if (pod.used.length > METRIC_S + 1) pod.used.shift();
    }
    if (now % METRIC_S === 0) for (const pod of pods) measure(pod, now, target, most);
    const kept = pods.filter(({ endsAt }) => endsAt === undefined);
    if (now % SYNC_S === phase) {
      const wanted = behavior.decide(kept.length, proposal(kept, target, now), now);
      for (let i = kept.length; i < wanted; i++) pods.push(create(now));
      for (const pod of kept.slice(wanted)) pod.endsAt = now + DRAIN_S;
    }
    pods = pods.filter(({ endsAt }) => endsAt === undefined || endsAt > now);
    const lacking = Math.max(0, load(now) - ready.length * most);
    const wanted = pods.filter(({ endsAt }) => endsAt === undefined).length;
    moments.push({ second: now, load: load(now), wanted, ready: ready.length, lacking });
  }
  return moments;
}

/** CPU in cores, which metrics-server has after two looks; or `bosun_utilization`, which a ready pod has at once. */
function measure(pod: Pod, now: number, { isCpu }: Target, most: number): void {
  const window = pod.used.slice(-METRIC_S);
  const mean = window.reduce((sum, used) => sum + used, 0) / window.length;
  if (isCpu && (pod.used.length > METRIC_S || pod.createdAt < 0)) pod.metric = { value: mean, at: now, windowS: METRIC_S };
  if (!isCpu && pod.readyAt !== undefined) {
    const served = pod.used.slice(-Math.min(METRIC_S, Math.max(1, now - pod.readyAt)));
    const value = served.reduce((sum, used) => sum + used, 0) / served.length / most;
    pod.metric = { value, at: now, windowS: METRIC_S };
  }
}
