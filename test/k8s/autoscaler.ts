/**
 * The decisions of Kubernetes' horizontal pod autoscaler, as functions of what it sees: pods, their metrics, and what it did before. After
 * pkg/controller/podautoscaler of Kubernetes 1.36 (replica_calculator.go, horizontal.go) with its default settings.
 */
import { at, listAt, type Manifest } from './manifests.ts';

/** Settings of the controller (config/v1alpha1/defaults.go). */
const TOLERANCE = 0.1;
const CPU_INITIALIZATION_S = 300;
export const SYNC_S = 15;

/** A pod as the controller sees it; times in seconds. */
export interface SeenPod {
  isPending: boolean;
  createdAt: number;
  readyAt: number | undefined;
  /** Of the container: the request in cores, and the last metric with the end and the length of its window. */
  request: number;
  metric: { value: number; at: number; windowS: number } | undefined;
}

/** The target of one metric: `isRelative` to the request, and `isCpu`, whose first values do not count. */
export interface Target {
  value: number;
  isRelative: boolean;
  isCpu: boolean;
}

/** The target of the first metric of an autoscaler. */
export function targetOf(autoscaler: Manifest | undefined): Target {
  const metric = listAt(autoscaler, 'spec.metrics')[0];
  const source = at(metric, 'containerResource') ?? at(metric, 'resource');
  const target = at(source ?? at(metric, 'pods'), 'target');
  const relative = at(target, 'averageUtilization');
  if (relative !== undefined) return { value: Number(relative) / 100, isRelative: true, isCpu: true };
  return { value: quantityOf(at(target, 'averageValue')), isRelative: false, isCpu: source !== undefined };
}

/** `200m` is 0.2. */
export function quantityOf(text: unknown): number {
  const [, digits = '', milli] = /^(\d+(?:\.\d+)?)(m?)$/.exec(String(text)) ?? [];
  if (digits === '') throw new Error(`a quantity such as 200m was expected, got ${text}`);
  return Number(digits) / (milli === 'm' ? 1000 : 1);
}

/** The number of pods by the metrics alone (GetResourceReplicas, calcPlainMetricReplicas). */
export function proposal(pods: readonly SeenPod[], target: Target, now: number): number {
  const current = pods.length;
  const unready = pods.filter(pod => pod.isPending || (target.isCpu && pod.metric !== undefined && !counts(pod, now)));
  const missing = pods.filter(pod => pod.metric === undefined && !pod.isPending);
  const measured = pods.filter(pod => !unready.includes(pod) && !missing.includes(pod));
  if (measured.length === 0) return current; // an error of the controller: nothing changes
  const used = measured.map(({ metric, request }) => ({ value: metric?.value ?? 0, request }));
  const ratio = ratioOf(used, target);
  const addsUnready = unready.length > 0 && ratio > 1;
  if (!addsUnready && missing.length === 0) return isWithin(ratio) ? current : Math.ceil(ratio * measured.length);

  // What is missing counts against the change: as idle on the way up, as full on the way down.
  const full = ({ request }: SeenPod) => (target.isRelative ? request * Math.max(1, target.value) : target.value);
  const assumed = missing.map(pod => ({ value: ratio < 1 ? full(pod) : 0, request: pod.request }));
  const idle = addsUnready ? unready.map(({ request }) => ({ value: 0, request })) : [];
  const all = [...used, ...assumed, ...idle];
  const second = ratioOf(all, target);
  if (isWithin(second) || ratio < 1 !== second < 1) return current;
  const wanted = Math.ceil(second * all.length);
  return (second < 1 && wanted > current) || (second > 1 && wanted < current) ? current : wanted;
}

/** The CPU time of a start does not count: not before a whole window since the pod is ready. */
function counts({ createdAt, readyAt, metric }: SeenPod, now: number): boolean {
  if (createdAt + CPU_INITIALIZATION_S <= now) return readyAt !== undefined;
  return readyAt !== undefined && metric !== undefined && metric.at >= readyAt + metric.windowS;
}

function ratioOf(used: readonly { value: number; request: number }[], { value, isRelative }: Target): number {
  const sum = used.reduce((total, one) => total + one.value, 0);
  const requests = used.reduce((total, one) => total + one.request, 0);
  // Whole per cents, and whole thousandths.
  return isRelative
    ? Math.floor((sum / requests) * 100 + 1e-9) / 100 / value
    : Math.floor((sum / used.length) * 1000 + 1e-9) / 1000 / value;
}

function isWithin(ratio: number): boolean {
  return 1 - TOLERANCE <= ratio && ratio <= 1 + TOLERANCE;
}

interface Rules {
  windowS: number;
  policies: { type: unknown; value: number; periodS: number }[];
}

/** Stabilization windows and policies (normalizeDesiredReplicasWithBehaviors), which need the past. */
export class Behavior {
  readonly #up: Rules;
  readonly #down: Rules;
  readonly #min: number;
  readonly #max: number;
  #recommended: { at: number; pods: number }[] = [];
  #changes: { at: number; by: number }[] = [];

  constructor(autoscaler: Manifest | undefined) {
    this.#up = rulesOf(at(autoscaler, 'spec.behavior.scaleUp'));
    this.#down = rulesOf(at(autoscaler, 'spec.behavior.scaleDown'));
    this.#min = Number(at(autoscaler, 'spec.minReplicas'));
    this.#max = Number(at(autoscaler, 'spec.maxReplicas'));
  }

  /** The number of pods to have. */
  decide(current: number, proposed: number, now: number): number {
    if (current < this.#min || current > this.#max) return Math.min(this.#max, Math.max(this.#min, current));
    if (this.#recommended.length === 0) this.#recommended.push({ at: now, pods: current });
    const within = (windowS: number) => this.#recommended.filter(one => one.at > now - windowS).map(({ pods }) => pods);
    const lowest = Math.min(proposed, ...within(this.#up.windowS));
    const highest = Math.max(proposed, ...within(this.#down.windowS));
    const longestS = Math.max(this.#up.windowS, this.#down.windowS);
    this.#recommended = [...this.#recommended.filter(one => one.at > now - longestS), { at: now, pods: proposed }];
    const stable = Math.min(Math.max(current, lowest), highest);
    const decided = stable > current ? Math.min(stable, this.#most(current, now)) : Math.max(stable, this.#least(current, now));
    if (decided !== current) this.#changes.push({ at: now, by: decided - current });
    return decided;
  }

  #most(current: number, now: number): number {
    const limits = this.#up.policies.map(({ type, value, periodS }) => {
      const start = this.#before(current, now, periodS);
      return type === 'Pods' ? start + value : Math.ceil(start * (1 + value / 100));
    });
    return Math.min(this.#max, Math.max(current, ...limits));
  }

  #least(current: number, now: number): number {
    const limits = this.#down.policies.map(({ type, value, periodS }) => {
      const start = this.#before(current, now, periodS);
      return type === 'Pods' ? start - value : Math.floor(start * (1 - value / 100));
    });
    return Math.max(this.#min, Math.min(current, ...limits));
  }

  /** How many there were when the period began. */
  #before(current: number, now: number, periodS: number): number {
    return this.#changes.filter(one => one.at > now - periodS).reduce((pods, { by }) => pods - by, current);
  }
}

function rulesOf(rules: unknown): Rules {
  const policies = listAt(rules, 'policies').map(({ type, value, periodSeconds }) => {
    return { type, value: Number(value), periodS: Number(periodSeconds) };
  });
  return { windowS: Number(at(rules, 'stabilizationWindowSeconds')), policies };
}
