/**
 * The rules for compose.yaml, as JSON Schema. `docker compose config` checks its syntax; rights, limits, ports and networks of the running
 * containers are checked in test/container/compose.test.ts.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import packageJson from '../package.json' with { type: 'json' };
import { at, change, listAt, type Manifest } from './k8s/manifests.ts';
import { absent, each, is, matches, object, Policy, present, type Schema } from './policy.ts';

const ROOT = join(import.meta.dirname, '..');
const TEXT = readFileSync(join(ROOT, 'compose.yaml'), 'utf8');
/** With the defaults of its variables; a copy, aliases expanded. */
const read = () => structuredClone(parse(TEXT.replace(/\$\{\w+:-([^}]*)\}/g, '$1'), { maxAliasCount: 100 })) as Manifest;

const secretFree: Schema = {
  patternProperties: { 'KEY|PASSW|SECRET|TOKEN': { enum: ['', null] } },
};
const any = object(
  {
    image: matches(/:(?!latest$)[\w.-]+$/),
    ports: each(matches(/^127\.0\.0\.1:/)),
    cap_drop: is(['ALL']),
    cap_add: absent(),
    privileged: absent(),
    security_opt: is(['no-new-privileges:true']),
    logging: object({ options: object({ 'max-size': present() }) }),
    environment: secretFree,
  },
  ['ports', 'environment'],
);
/** The services that start without a profile. */
const own = object({
  init: is(true),
  restart: is('unless-stopped'),
  read_only: is(true),
  ulimits: object({ nofile: present() }),
  deploy: object({ resources: object({ limits: object({ cpus: present(), memory: present(), pids: present() }) }) }),
  healthcheck: object({ test: present(), timeout: present(), start_period: present(), start_interval: present() }),
});

const POLICY = new Policy({
  compose: object({
    version: absent(), // ignored since Compose 2
    services: {
      additionalProperties: any,
      allOf: [
        object({ app: own, redis: own }),
        object({
          app: object({
            image: is(`koa-bosun:${packageJson.version}`),
            build: object({ dockerfile: is('docker/Dockerfile') }),
            depends_on: object({ redis: object({ condition: is('service_healthy') }) }),
          }),
          redis: object({
            ports: absent(),
            networks: is(['inside']),
            // Sessions outlive their container; only keys that expire are evicted, never the session keys.
            command: is('redis-server --appendonly yes --save  --maxmemory 128mb --maxmemory-policy volatile-ttl'.split(' ')),
            volumes: is(['redis:/data']),
          }),
        }),
      ],
    },
    networks: object({ inside: object({ internal: is(true) }) }),
  }),
});

/** Time for close handlers, Redis and the exit. */
const EXIT_SECONDS = 5;
const GRACE = 'docker stop waits longer than delay, timeout and exit, and bosun doctor knows how long';
const MEMORY = 'a rewrite of the append-only file fits into the memory of Redis';

function broken(compose: Manifest): string[] {
  const variable = (name: string) => Number(at(compose, `services.app.environment.${name}`));
  const grace = Number.parseInt(String(at(compose, 'services.app.stop_grace_period')), 10);
  const needed = (variable('SHUTDOWN_DELAY_MS') + variable('SHUTDOWN_TIMEOUT_MS')) / 1000 + EXIT_SECONDS;
  const megabytes = (text: unknown) => Number.parseInt(String(text), 10);
  const used = megabytes(listAt(compose, 'services.redis.command')[6]);
  return [
    ...POLICY.faults('compose', compose),
    ...(needed < grace && grace === variable('TERMINATION_GRACE_PERIOD_SECONDS') ? [] : [GRACE]),
    ...(2 * used <= megabytes(at(compose, 'services.redis.deploy.resources.limits.memory')) ? [] : [MEMORY]),
  ];
}

/** Faults, of which each rule sees at least one: the path, and the value, or none to remove it. */
const MUTATIONS: [path: string, value?: unknown][] = [
  ['version', '3.8'],
  ['services.app.image', 'koa-bosun:latest'],
  ['services.app.build.dockerfile', 'Dockerfile'],
  ['services.app.depends_on', ['redis']],
  ['services.app.stop_grace_period', '35s'],
  ['services.app.environment.TERMINATION_GRACE_PERIOD_SECONDS', '30'],
  ['services.app.environment.SESSION_KEYS', 'a-key'],
  ['services.app.init'],
  ['services.app.restart'],
  ['services.app.read_only'],
  ['services.app.ulimits'],
  ['services.app.ports.0', '3000:3000'],
  ['services.app.cap_add', ['NET_ADMIN']],
  ['services.app.privileged', true],
  ['services.app.deploy'],
  ['services.app.healthcheck'],
  ['services.redis.image', 'redis'],
  ['services.redis.ports', ['127.0.0.1:6379:6379']],
  ['services.redis.networks', ['inside', 'outside']],
  ['services.redis.command', []],
  ['services.redis.volumes', []],
  ['services.redis.deploy.resources.limits.memory', '192M'],
  ['services.redis.logging'],
  ['services.grafana.cap_drop'],
  ['services.grafana.security_opt'],
  ['networks.inside.internal'],
];

test('compose.yaml keeps every rule', () => {
  assert.deepEqual(broken(read()), []);
});

test('each rule about compose.yaml reports a fault that it is for', () => {
  const reported = new Set<string>();
  for (const [path, value] of MUTATIONS) {
    const compose = read();
    change(compose, path, value);
    const faults = broken(compose);
    assert.notDeepEqual(faults, [], `${path} = ${JSON.stringify(value)} must break a rule`);
    for (const fault of faults) reported.add(fault.split(': ')[0] ?? '');
  }
  assert.deepEqual(
    [...POLICY.rules, GRACE, MEMORY].filter(rule => !reported.has(rule)),
    [],
  );
});

const noCompose = spawnSync('docker', ['compose', 'version']).status === 0 ? false : 'no docker compose here';

test('docker compose accepts compose.yaml without a warning, and refuses an unknown field', { skip: noCompose }, () => {
  const check = (input: string) =>
    spawnSync('docker', ['compose', '--project-directory', ROOT, '-f', '-', '--profile', '*', 'config', '--quiet'], {
      input,
      encoding: 'utf8',
    });
  const { status, stdout, stderr } = check(TEXT);
  assert.deepEqual([status, stdout, stderr], [0, '', '']);
  assert.match(check(TEXT.replace('read_only:', 'readonly:')).stderr, /readonly/);
});
