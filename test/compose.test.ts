/**
 * What compose.yaml must keep to, a rule each, with a fault that it must see. How the containers really run is in
 * test/container/compose.test.ts.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import packageJson from '../package.json' with { type: 'json' };
import { change } from './k8s/manifests.ts';
import { at, listAt, type Manifest } from './k8s/rule.ts';

const TEXT = readFileSync(join(import.meta.dirname, '..', 'compose.yaml'), 'utf8');
/** With the defaults of its variables, aliases written out. */
const read = () => structuredClone(parse(TEXT.replace(/\$\{\w+:-([^}]*)\}/g, '$1'), { maxAliasCount: 100 })) as Manifest;

/** For close handlers, Redis and the exit. */
const SLACK_SECONDS = 5;

const servicesOf = (compose: Manifest) => Object.entries(at(compose, 'services') as Record<string, Manifest>);
/** Those that start without a profile. */
const ownOf = (compose: Manifest) => servicesOf(compose).filter(([, service]) => service.profiles === undefined);
const each = (compose: Manifest, keeps: (service: Manifest, name: string) => boolean) =>
  servicesOf(compose).every(([name, service]) => keeps(service, name));
const eachOwn = (compose: Manifest, keeps: (service: Manifest) => boolean) =>
  ownOf(compose).every(([, service]) => keeps(service));
const mebibytes = (text: unknown) => Number(/^(\d+)mb?$/i.exec(String(text))?.[1]);

interface Rule {
  says: string;
  source: string;
  keeps: (compose: Manifest) => boolean;
  /** The path of what is changed, and its value; none takes it away. */
  fault: [path: string, value?: unknown];
}

const RULES: Rule[] = [
  {
    says: 'no version: what it says is ignored',
    source: 'compose specification',
    keeps: compose => compose.version === undefined,
    fault: ['version', '3.8'],
  },
  {
    says: 'the image is the one of this version, built where it is missing',
    source: 'package.json',
    keeps: compose =>
      at(compose, 'services.app.image') === `koa-bosun:${packageJson.version}` &&
      at(compose, 'services.app.build.dockerfile') === 'docker/Dockerfile',
    fault: ['services.app.image', 'koa-bosun:latest'],
  },
  {
    says: 'every image has a tag that is not latest',
    source: 'DL3006, DL3007',
    keeps: compose => each(compose, ({ image }) => /:(?!latest$)[\w.-]+$/.test(String(image))),
    fault: ['services.redis.image', 'redis'],
  },
  {
    says: 'docker stop waits longer than delay, timeout and 5 s',
    source: 'facts: draining 35',
    keeps: compose => {
      const app = at(compose, 'services.app');
      const seconds = (name: string) => Number(at(app, `environment.${name}`)) / 1000;
      const sum = seconds('SHUTDOWN_DELAY_MS') + seconds('SHUTDOWN_TIMEOUT_MS') + SLACK_SECONDS;
      return Number(/^(\d+)s$/.exec(String(at(app, 'stop_grace_period')))?.[1]) > sum;
    },
    fault: ['services.app.stop_grace_period', '35s'],
  },
  {
    says: 'bosun doctor knows how long docker stop waits',
    source: 'docs/guide/docker.md',
    keeps: compose => {
      const app = at(compose, 'services.app');
      return at(app, 'stop_grace_period') === `${at(app, 'environment.TERMINATION_GRACE_PERIOD_SECONDS')}s`;
    },
    fault: ['services.app.environment.TERMINATION_GRACE_PERIOD_SECONDS', '30'],
  },
  {
    says: 'an init is PID 1, and what ends comes back',
    source: 'facts: draining 21',
    keeps: compose => eachOwn(compose, ({ init, restart }) => init === true && restart === 'unless-stopped'),
    fault: ['services.app.init'],
  },
  {
    says: 'every port is for this machine only',
    source: 'facts: compose',
    keeps: compose => each(compose, service => listAt(service, 'ports').every(port => String(port).startsWith('127.0.0.1:'))),
    fault: ['services.app.ports.0', '3000:3000'],
  },
  {
    says: 'Redis is on a network that leads nowhere, and publishes nothing',
    source: 'facts: compose',
    keeps: compose =>
      at(compose, 'services.redis.ports') === undefined &&
      listAt(compose, 'services.redis.networks').every(name => at(compose, `networks.${name}.internal`) === true),
    fault: ['services.redis.networks', ['inside', 'outside']],
  },
  {
    says: 'nothing runs with more rights than it needs',
    source: 'facts: compose',
    keeps: compose =>
      eachOwn(compose, service => service.read_only === true) &&
      each(compose, service => listAt(service, 'cap_drop').join() === 'ALL' && service.cap_add === undefined) &&
      each(compose, service => listAt(service, 'security_opt').join() === 'no-new-privileges:true') &&
      each(compose, service => service.privileged === undefined),
    fault: ['services.redis.read_only'],
  },
  {
    says: 'nothing takes more of the machine than it may',
    source: 'facts: compose',
    keeps: compose =>
      eachOwn(compose, service => {
        const limits = at(service, 'deploy.resources.limits') as Manifest | undefined;
        return (
          ['cpus', 'memory', 'pids'].every(name => limits?.[name] !== undefined) && at(service, 'ulimits.nofile') !== undefined
        );
      }),
    fault: ['services.app.deploy.resources.limits.pids'],
  },
  {
    says: 'logs have an end',
    source: 'facts: compose',
    keeps: compose => each(compose, service => at(service, 'logging.options.max-size') !== undefined),
    fault: ['services.redis.logging'],
  },
  {
    says: 'health is requested often while a service starts',
    source: 'compose 2.20, engine 25',
    keeps: compose =>
      eachOwn(compose, service =>
        ['test', 'timeout', 'start_period', 'start_interval'].every(name => at(service, `healthcheck.${name}`) !== undefined),
      ),
    fault: ['services.app.healthcheck.start_interval'],
  },
  {
    says: 'the app starts when Redis answers',
    source: 'facts: compose',
    keeps: compose => at(compose, 'services.app.depends_on.redis.condition') === 'service_healthy',
    fault: ['services.app.depends_on', ['redis']],
  },
  {
    says: 'sessions outlive their container, and only what has an end is evicted',
    source: 'redis.io, configuration',
    keeps: compose => {
      const redis = at(compose, 'services.redis');
      const command = listAt(redis, 'command').join(' ');
      return (
        /--appendonly yes .*--maxmemory-policy volatile-/.test(command) &&
        2 * mebibytes(/--maxmemory (\S+)/.exec(command)?.[1]) <= mebibytes(at(redis, 'deploy.resources.limits.memory')) &&
        listAt(redis, 'volumes').some(volume => String(volume).endsWith(':/data'))
      );
    },
    fault: ['services.redis.deploy.resources.limits.memory', '192M'],
  },
  {
    says: 'no secret is written in it',
    source: 'CIS 5.4.1',
    keeps: compose =>
      each(compose, service =>
        Object.entries((service.environment ?? {}) as Manifest).every(
          ([name, value]) => !/KEY|PASSW|SECRET|TOKEN/.test(name) || !value,
        ),
      ),
    fault: ['services.app.environment.SESSION_KEYS', 'a-key'],
  },
];

for (const { says, source, keeps, fault } of RULES) {
  test(`compose.yaml: ${says} (${source})`, () => {
    assert.ok(keeps(read()));
    const broken = read();
    change(broken, fault[0], fault[1]);
    assert.ok(!keeps(broken), `must be seen: ${fault}`);
  });
}
