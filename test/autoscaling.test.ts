/**
 * The autoscalers of k8s/components over loads in virtual time, by the formula of Kubernetes' controller.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Behavior, proposal, quantityOf, type SeenPod, type Target, targetOf } from './k8s/autoscaler.ts';
import { at, change, containersOf, find, type Manifest, read } from './k8s/manifests.ts';
import { type Moment, type Setting, simulate } from './k8s/scaled-app.ts';
import { seededRandom } from './random.ts';

const component = (file: string) => find(read(join('components', file)), 'HorizontalPodAutoscaler') ?? {};
const [container] = containersOf(find(read('base/app.yaml'), 'Deployment'));
const REQUEST = quantityOf(at(container, 'resources.requests.cpu'));
const LIMIT = quantityOf(at(container, 'resources.limits.cpu'));

/** A node with CPU to spare, and one that leaves a pod its request alone. The load that a pod is to have, in cores, is `perPod`. */
const CASES = [
  { name: 'hpa, CPU to spare', file: 'hpa/autoscaler.yaml', most: LIMIT, perPod: 0.7 * REQUEST },
  { name: 'hpa, a packed node', file: 'hpa/autoscaler.yaml', most: REQUEST, perPod: 0.7 * REQUEST },
  { name: 'hpa-utilization, CPU to spare', file: 'hpa-utilization/autoscaler.yaml', most: LIMIT, perPod: 0.6 * LIMIT },
  { name: 'hpa-utilization, a packed node', file: 'hpa-utilization/autoscaler.yaml', most: REQUEST, perPod: 0.6 * REQUEST },
];
type Case = (typeof CASES)[number];

/** `load` in pods that are loaded as they should be. */
function run({ file, most, perPod }: Case, setting: Pick<Setting, 'load' | 'seconds'> & Partial<Setting>): Moment[] {
  const { load } = setting;
  return simulate({ autoscaler: component(file), request: REQUEST, most, ...setting, load: second => load(second) * perPod });
}

const PHASES = [0, 4, 8, 12];
const MIN = 3;
const MAX = 10;
/** What is needed, and what the controller's tolerance and an idle pod's CPU time add. */
const enoughFor = (pods: number) => Math.min(MAX, Math.max(MIN, Math.ceil(pods * 1.1)) + 1);
const changes = (moments: readonly Moment[]) => moments.filter(({ wanted }, i) => i > 0 && wanted !== moments[i - 1]?.wanted);
const directions = (moments: readonly Moment[]) =>
  changes(moments).map(({ second, wanted }) => Math.sign(wanted - (moments[second - 1]?.wanted ?? wanted)));
const turns = (moments: readonly Moment[]) => directions(moments).filter((sign, i, all) => i > 0 && sign !== all[i - 1]).length;

for (const one of CASES) {
  const STEP_AT = 120;
  const DAY_S = 14_400; // six times as fast
  const isSpare = one.most === LIMIT && one.file.startsWith('hpa/');

  test(`${one.name}: new pods serve within a minute of a higher load, and there are never too many`, () => {
    for (const phase of PHASES) {
      for (const pods of [4, 5, 6, 8, 10, 30]) {
        const moments = run(one, { load: second => (second < STEP_AT ? 2 : pods), seconds: 600, phase });
        const since = (isSo: (moment: Moment) => boolean) => (moments.find(isSo)?.second ?? Number.POSITIVE_INFINITY) - STEP_AT;
        assert.ok(since(({ ready }) => ready > MIN) <= 60, `${pods} pods, phase ${phase}: first after a minute`);
        const all = since(({ ready }) => ready >= Math.min(MAX, pods));
        // A pod that is full cannot show by how much its load is too high: one step of 1.4 to 1.7 after another.
        assert.ok(all <= (isSpare ? 60 : pods <= 4 ? 60 : 135), `${pods} pods, phase ${phase}: all after ${all} s`);
        assert.ok(Math.max(...moments.map(({ wanted }) => wanted)) <= enoughFor(pods), `${pods} pods, phase ${phase}: too many`);
        assert.ok(turns(moments) <= 1, 'at most one correction');
      }
    }
  });

  test(`${one.name}: a ramp and a day are followed, with one way up and one way down`, () => {
    const ramp = run(one, { load: second => Math.min(8, 2 + second / 200), seconds: 3600 });
    assert.equal(turns(ramp), 0);
    assert.equal(ramp.at(-1)?.wanted, Math.min(enoughFor(8), ramp.at(-1)?.wanted ?? 0));
    assert.equal(Math.max(...ramp.map(({ lacking }) => lacking)), 0, 'never too few');
    const day = run(one, { load: second => 5 - 3.5 * Math.cos((second / DAY_S) * 2 * Math.PI), seconds: DAY_S });
    assert.equal(turns(day), 1);
    assert.equal(Math.max(...day.map(({ lacking }) => lacking)), 0, 'never too few');
    assert.deepEqual([day[0]?.wanted, day.at(-1)?.wanted], [MIN, MIN]);
    for (const { load, wanted, second } of day) {
      const needed = enoughFor(load / one.perPod);
      assert.ok(wanted <= needed + 1, `${wanted} pods at ${second} s, ${needed} are enough`);
    }
  });

  test(`${one.name}: after a spike the pods stay five minutes, then leave one by one`, () => {
    const moments = run(one, { load: second => (second >= 120 && second < 240 ? 6 : 2), seconds: 1800 });
    assert.equal(turns(moments), 1);
    const down = changes(moments).filter(({ second, wanted }) => wanted < (moments[second - 1]?.wanted ?? 0));
    const lastUp = changes(moments).findLast(({ second, wanted }) => wanted > (moments[second - 1]?.wanted ?? 0));
    const stayed = (down[0]?.second ?? 0) - (lastUp?.second ?? 0);
    assert.ok(stayed >= 300, `the first leaves ${stayed} s after the last has come`);
    for (const { second, wanted } of down) assert.equal(wanted, (moments[second - 1]?.wanted ?? 0) - 1);
    assert.equal(moments.at(-1)?.wanted, MIN);
  });

  test(`${one.name}: noise of 30 % changes the pods a few times an hour, not with each measurement`, () => {
    for (const seed of [1, 2, 3]) {
      const random = seededRandom(seed);
      const noise = Array.from({ length: 3600 }, () => 0.7 + 0.6 * random());
      const moments = run(one, { load: second => 5 * (noise[second] ?? 1), seconds: 3600 });
      assert.ok(turns(moments) <= 2, `${turns(moments)} turns`);
      assert.ok(Math.max(...moments.map(({ wanted }) => wanted)) <= enoughFor(5) + 1);
    }
  });
}

test('the target of 0.1.0, 1400m with a request of 200m, is never reached on a packed node', () => {
  const before = structuredClone(component('hpa/autoscaler.yaml'));
  change(before, 'spec.metrics', [
    { type: 'Resource', resource: { name: 'cpu', target: { type: 'AverageValue', averageValue: '1400m' } } },
  ]);
  const load = (second: number) => (second < 120 ? 0.3 : 30);
  const then = simulate({ autoscaler: before, request: REQUEST, most: REQUEST, load, seconds: 3600 });
  assert.equal(Math.max(...then.map(({ wanted }) => wanted)), MIN);
  const now = simulate({ autoscaler: component('hpa/autoscaler.yaml'), request: REQUEST, most: REQUEST, load, seconds: 3600 });
  assert.equal(Math.max(...now.map(({ wanted }) => wanted)), MAX);
});

test('the target of each autoscaler can be reached by a pod that its node leaves its request alone', () => {
  const { value, isRelative } = targetOf(component('hpa/autoscaler.yaml'));
  assert.ok(isRelative && value <= 0.9, 'of the request');
  assert.ok(targetOf(component('hpa-utilization/autoscaler.yaml')).value <= 0.9, 'of the event loops');
});

/** A pod that has been ready for ten minutes and uses so many cores of its 0.2. */
const pod = (value: number | undefined, more: Partial<SeenPod> = {}): SeenPod => ({
  isPending: false,
  createdAt: -1000,
  readyAt: -990,
  request: 0.2,
  metric: value === undefined ? undefined : { value, at: 0, windowS: 15 },
  ...more,
});
const CPU: Target = { value: 0.7, isRelative: true, isCpu: true };

// The numbers follow from replica_calculator.go by hand.
const PROPOSALS: [says: string, pods: SeenPod[], target: Target, expected: number][] = [
  ['a ratio within a tenth changes nothing', [pod(0.154), pod(0.154), pod(0.154)], CPU, 3],
  ['above it, as many as bring the mean to the target', [pod(0.156), pod(0.156), pod(0.156)], CPU, 4],
  ['below it, fewer', [pod(0.06), pod(0.06), pod(0.06)], CPU, 2],
  [
    'a pod that is pending is idle on the way up',
    [pod(0.2), pod(0.2), pod(undefined, { isPending: true, readyAt: undefined })],
    CPU,
    3,
  ],
  ['CPU within a window of the readiness does not count', [pod(0.1), pod(0.1), pod(2, { createdAt: -20, readyAt: -10 })], CPU, 2],
  ['a pod without a metric is full on the way down', [pod(0.02), pod(0.02), pod(undefined)], CPU, 2],
  ['and idle on the way up', [pod(0.2), pod(0.2), pod(undefined)], CPU, 3],
  ['nothing measured changes nothing', [pod(undefined), pod(undefined)], CPU, 2],
  ['a value of its own has no request', [pod(0.9), pod(0.9)], { value: 0.6, isRelative: false, isCpu: false }, 3],
];

test('the simulated controller proposes what the one of Kubernetes does', () => {
  for (const [says, pods, target, expected] of PROPOSALS) assert.equal(proposal(pods, target, 0), expected, says);
});

test('the simulated controller keeps windows and policies as the one of Kubernetes does', () => {
  const wide: Manifest = structuredClone(component('hpa/autoscaler.yaml'));
  change(wide, 'spec.maxReplicas', 100);
  const behavior = new Behavior(wide);
  assert.equal(behavior.decide(1, 1, 0), 3, 'the minimum');
  assert.equal(behavior.decide(3, 50, 15), 7, '4 more');
  assert.equal(behavior.decide(7, 50, 20), 7, 'not again within 15 s');
  assert.equal(behavior.decide(7, 50, 30), 14, 'twice as many');
  assert.equal(behavior.decide(14, 50, 45), 28);
  assert.equal(behavior.decide(28, 20, 60), 28, 'the highest of five minutes');
  assert.equal(behavior.decide(28, 20, 346), 25, 'a tenth');
  assert.equal(behavior.decide(25, 20, 361), 25, 'not again within a minute');
  assert.equal(behavior.decide(25, 20, 407), 22);
});

test('docs/guide/autoscaling.md has the times of this simulation', () => {
  const page = readFileSync(join(import.meta.dirname, '..', 'docs', 'guide', 'autoscaling.md'), 'utf8');
  const [spare, packed, utilization] = CASES;
  for (const pods of [4, 6, 10]) {
    const slowest = [spare, packed, utilization].map(one => {
      const times = PHASES.map(phase => {
        const moments = one ? run(one, { load: second => (second < 120 ? 2 : pods), seconds: 600, phase }) : [];
        return (moments.find(({ ready }) => ready >= pods)?.second ?? Number.NaN) - 120;
      });
      return `${Math.max(...times)} s`;
    });
    const row = `| from 2 to ${pods} | ${slowest.join(' | ')} |`;
    assert.ok(page.includes(row), `docs/guide/autoscaling.md must say: ${row}`);
  }
});
