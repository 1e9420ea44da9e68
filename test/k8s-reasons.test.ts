/**
 * k8s/make/reasons.sh, which make k8s-apply calls: its arguments, and what it takes from bosun status. A fake kubectl notes how it is
 * called. What a real cluster reports is in docs/guide/troubleshooting.md.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ErrorRates } from '../src/admin/error-rates.ts';
import { RecentErrors } from '../src/admin/recent-errors.ts';
import { type Pod, statusOf } from '../src/admin/status.ts';
import { Totals } from '../src/admin/totals.ts';
import type { PodState } from '../src/protocol/api.ts';
import { ROOT } from './process/kit.ts';
import { temporaryFolder } from './process/operator.ts';

const SCRIPT = join(ROOT, 'k8s', 'make', 'reasons.sh');

/** @param answers what the fake kubectl prints for a call with that word */
function run(args: string[], answers: Record<string, string> = {}) {
  const folder = temporaryFolder();
  const calls = join(folder, 'calls');
  const cases = Object.entries(answers).map(([word, text]) => {
    writeFileSync(join(folder, word), text);
    return `*' ${word} '*) cat ${join(folder, word)} ;;`;
  });
  writeFileSync(join(folder, 'kubectl'), `#!/bin/sh\necho "$*" >> ${calls}\ncase "$* " in ${cases.join(' ')} esac\n`, {
    mode: 0o755,
  });
  const { status, stdout } = spawnSync('sh', [SCRIPT, ...args], {
    encoding: 'utf8',
    env: { ...process.env, PATH: `${folder}:${process.env.PATH}` },
  });
  const called = existsSync(calls) ? readFileSync(calls, 'utf8').trimEnd().split('\n') : [];
  return { status, stdout, called };
}

test('the script of reasons reads objects of one instance in one namespace, and says nothing where all pods are ready', () => {
  const { status, stdout, called } = run(['team', 'shop-app', 'shop']);
  assert.deepEqual([status, stdout], [0, '']);
  assert.ok(called.length >= 3, called.join('\n'));
  for (const call of called)
    assert.match(call, /^-n team get (?:deployment shop-app|(?:pvc|pods) -l app\.kubernetes\.io\/instance=shop) /);
});

/** Runs k8s/make/apply.sh, for one second, of a Deployment of 2 replicas and revision 3 in the namespace team. `answers`: by a pattern of sh. */
function apply(answers: Record<string, string>) {
  const folder = temporaryFolder();
  const cases = Object.entries({
    'create -f *': 'ConfigMap team app\nDeployment team app 2',
    'get -f *{.kind}/*': 'Deployment/team/app',
    '*minReplicas*': '',
    '*{.spec.replicas}*': '2',
    '*get pods*': '',
    ...answers,
  }).map(([pattern, text]) => `${pattern.replaceAll(' ', '\\ ')}) printf '${text}\\n' ;;`);
  writeFileSync(join(folder, 'kubectl'), `#!/bin/sh\ncase "$*" in\n${cases.join('\n')}\nesac\n`, { mode: 0o755 });
  return spawnSync('sh', [join(ROOT, 'k8s', 'make', 'apply.sh')], {
    encoding: 'utf8',
    env: { ...process.env, PATH: `${folder}:${process.env.PATH}`, NAME: '', WAIT: '0' },
  });
}

for (const [what, deployment, replicaSets, said, refusal] of [
  ['the first apply', '01 01 02 02 0 =1', 'app=', '0 of 2 pods serve', 'the rollout must end within 0 s, see above'],
  [
    'a rollout',
    '02 02 03 01 02 =3',
    'app=',
    '0 of 2 new pods serve; old pods still serving: 2',
    'the rollout must end within 0 s, see above',
  ],
  ['a Deployment beside it', '02 02 02 02 02 =3', 'other=9\\napp=2', '2 of 2 pods serve', undefined],
  [
    'many old pods',
    '02 02 012 02 012 =3',
    'app=2',
    '2 of 2 new pods serve; old pods still serving: 10',
    'the rollout must end within 0 s, see above',
  ],
] as const)
  test(`k8s-apply counts the pods of the new revision: ${what}`, () => {
    const { status, stdout, stderr } = apply({
      '*get namespace*': 'namespace/team',
      '*observedGeneration*': deployment,
      '*get replicasets*': replicaSets,
    });
    assert.equal(stdout.trim(), `k8s-apply: ${said}`);
    assert.equal(stderr, refusal === undefined ? '' : `k8s-apply: ${refusal}\n`);
    assert.equal(status, refusal === undefined ? 0 : 1);
  });

test('k8s-apply says once that the namespace is not there, and applies nothing', () => {
  const { status, stdout, stderr } = apply({ 'apply*': 'applied' });
  assert.deepEqual(
    [status, stdout, stderr],
    [1, '', 'k8s-apply: there must be a namespace team: kubectl create namespace team\n'],
  );
});

test('the script of reasons takes exactly a namespace, a Deployment and an instance', () => {
  for (const args of [[], ['team'], ['team', 'shop-app', 'shop', 'more']]) assert.deepEqual(run(args).called, []);
  assert.equal(run(['team', 'shop-app']).status, 64);
});

/** What bosun status --json prints of a pod in that state. */
function statusOfPod(state: PodState, reason: string): string {
  const pod = {
    service: { name: 'shop' },
    version: '0.1.0',
    state,
    readiness: { reason },
    supervisor: { generation: 1, handles: [] },
    totals: new Totals(),
    pressure: {},
    errorRates: new ErrorRates(),
    recentErrors: new RecentErrors(),
    redisRefusals: [],
    health: { status: () => undefined },
    memory: () => ({}),
  } as unknown as Pod;
  return JSON.stringify({ ...statusOf(pod, 'operator'), workers: [{ id: 1, state: 'ready', generation: 1 }] });
}

for (const [what, state, reason, line] of [
  [
    'a pod that starts',
    'starting',
    'starting: 0 of 2 workers serve; Redis says "no"',
    'starting: 0 of 2 workers serve; Redis says "no"',
  ],
  ['a pod that waits', 'starting', 'waiting for Redis: no answer', 'starting: waiting for Redis: no answer'],
  ['a pod without workers', 'ready', 'no worker serves', 'ready: no worker serves'],
  ['a pod that ends', 'draining', 'draining', 'draining'],
  ['a pod without a reason', 'starting', '', 'starting'],
] as const)
  test(`of ${what} the reason is that of bosun status: ${line}`, () => {
    const { stdout } = run(['team', 'shop-app', 'shop'], { pods: 'shop-app-1 ', pod: '2026', exec: statusOfPod(state, reason) });
    assert.match(stdout, new RegExp(`^pod/shop-app-1 is not ready:\n(?:  2026\n)?  ${line}\n$`));
  });
