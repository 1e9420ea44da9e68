/**
 * What a generation of workers starts with, read at the start and again by each rolling restart, in a temporary working directory.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, realpathSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ConfigError, readSettings } from '../src/config/config.ts';
import { redisEnvironment } from '../src/config/redis-address.ts';
import { Settings } from '../src/pool/settings.ts';

const KEY = 'k'.repeat(40);

/** Enters a directory with an app and a link `current` to its release, and sets these variables until the end of the test. */
function enter(t: TestContext, variables: Record<string, string> = {}) {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'bosun-settings-')));
  for (const release of ['one', 'two']) {
    mkdirSync(join(folder, release));
    writeFileSync(join(folder, release, 'app.mjs'), '');
  }
  const link = join(folder, 'current');
  symlinkSync('one', link);
  const before = { directory: process.cwd(), environment: { ...process.env }, options: process.execArgv };
  process.chdir(link);
  const environment = { PWD: link, NODE_ENV: 'production', APP_MODULE: 'app.mjs', SESSION_KEYS: KEY, ...variables };
  process.env = { ...environment };
  process.execArgv = ['--trace-exit']; // not those of the test runner
  t.after(() => {
    process.env = before.environment;
    process.execArgv = before.options;
    process.chdir(before.directory);
    rmSync(folder, { recursive: true, force: true });
  });
  return {
    folder,
    /** Deploys the other release. */
    deploy: () => {
      symlinkSync('two', join(folder, 'next'));
      renameSync(join(folder, 'next'), link);
    },
  };
}

function problemsOf(read: () => unknown): readonly string[] {
  try {
    read();
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems;
  }
  return [];
}

test('a reload takes the new variables and the release that the link leads to, and can be undone', t => {
  const { folder, deploy } = enter(t);
  const settings = new Settings();
  assert.deepEqual(settings.release, { directory: join(folder, 'one'), module: join(folder, 'one', 'app.mjs') });
  process.env.NODE_CLUSTER_WORKERS = '3';
  deploy();
  assert.equal(settings.release.directory, join(folder, 'one'), 'nothing changes before a reload');
  assert.deepEqual(settings.config.workers, { kind: 'auto' });
  const takeBack = settings.reload();
  assert.equal(settings.release.directory, join(folder, 'two'));
  assert.deepEqual(settings.config.workers, { kind: 'count', count: 3 });
  assert.equal(settings.environment.NODE_CLUSTER_WORKERS, '3');
  takeBack();
  assert.equal(settings.release.directory, join(folder, 'one'));
  assert.deepEqual(settings.config.workers, { kind: 'auto' });
});

test('a reload that changes what is fixed is refused with the names, and the settings stay as they were', t => {
  enter(t, { PORT: '3000' });
  const settings = new Settings();
  process.env.PORT = '3001';
  process.env.NODE_CLUSTER_WORKERS = '3';
  const problems = problemsOf(() => settings.reload());
  assert.equal(problems.length, 1);
  assert.match(problems[0] ?? '', /^PORT .*restart/);
  assert.deepEqual([settings.config.port, settings.config.workers.kind], [3000, 'auto']);
});

test('a reload whose settings are invalid leaves the settings as they were', t => {
  enter(t);
  const settings = new Settings();
  process.env.NODE_CLUSTER_WORKERS = 'many';
  assert.match(problemsOf(() => settings.reload()).join(), /^NODE_CLUSTER_WORKERS/);
  assert.equal(settings.config.workers.kind, 'auto');
});

test('a reload in a working directory that was removed says so', t => {
  const { folder } = enter(t);
  const settings = new Settings();
  rmSync(folder, { recursive: true });
  assert.match(problemsOf(() => settings.reload()).join(), /current.*ENOENT/);
});

test('a worker whose release was removed runs the current one', t => {
  const { folder, deploy } = enter(t);
  const settings = new Settings();
  deploy();
  rmSync(join(folder, 'one'), { recursive: true });
  assert.deepEqual(settings.release, { directory: join(folder, 'two'), module: join(folder, 'two', 'app.mjs') });
});

test('an app outside a working directory that was removed still starts', t => {
  const { folder } = enter(t);
  mkdirSync(join(folder, 'own'));
  process.env.APP_MODULE = join(folder, 'two', 'app.mjs');
  process.env.PWD = join(folder, 'own');
  process.chdir('/');
  process.chdir(join(folder, 'own'));
  const settings = new Settings();
  rmSync(join(folder, 'own'), { recursive: true });
  rmSync(join(folder, 'current'));
  assert.deepEqual(settings.release, { directory: '/', module: join(folder, 'two', 'app.mjs') });
});

test('session keys are those that are set, none with Redis, and otherwise generated once', t => {
  enter(t);
  const set = new Settings();
  assert.deepEqual([set.sessionKeys(), set.areSessionKeysGenerated], [[KEY], false]);
  delete process.env.SESSION_KEYS;
  const generated = new Settings();
  const keys = generated.sessionKeys();
  assert.equal(keys.length, 1);
  generated.reload();
  assert.deepEqual([generated.sessionKeys(), generated.areSessionKeysGenerated], [keys, true]);
  assert.notDeepEqual(new Settings().sessionKeys(), keys);
  process.env.REDIS_URL = 'redis://127.0.0.1:6379';
  const shared = new Settings();
  assert.deepEqual([shared.sessionKeys(), shared.areSessionKeysGenerated], [[], false]);
});

test('the grace period of the platform is known only where it is a positive number', t => {
  enter(t);
  for (const [text, seconds] of [
    ['30', 30],
    ['0.5', 0.5],
    ['0', undefined],
    ['-1', undefined],
    ['soon', undefined],
  ] as const) {
    process.env.TERMINATION_GRACE_PERIOD_SECONDS = text;
    assert.equal(new Settings().gracePeriodSeconds, seconds, text);
  }
  delete process.env.TERMINATION_GRACE_PERIOD_SECONDS;
  assert.equal(new Settings().gracePeriodSeconds, undefined);
});

test('secrets that were read from files are kept for the workers as they were', t => {
  const { folder } = enter(t);
  delete process.env.SESSION_KEYS;
  process.env.SESSION_KEYS_FILE = join(folder, 'keys');
  writeFileSync(join(folder, 'keys'), KEY);
  const settings = new Settings();
  writeFileSync(join(folder, 'keys'), 'x'.repeat(40));
  assert.deepEqual(settings.sessionKeys(), [KEY]);
  assert.match(JSON.stringify(settings.secrets), new RegExp(KEY));
});

test('Node.js options are read from their variables and from the command line of the primary', t => {
  enter(t, { NODE_OPTIONS: '--trace-warnings', WORKER_NODE_OPTIONS: '--max-old-space-size=100 --trace-deprecation' });
  const settings = new Settings();
  assert.deepEqual(settings.nodeOptions, {
    environment: ['--trace-warnings'],
    commandLine: ['--trace-exit'],
    workers: ['--max-old-space-size=100', '--trace-deprecation'],
  });
  assert.deepEqual(settings.nodeOptionWarnings, []);
});

test('--max-http-header-size is the limit of headers, as MAX_HEADER_BYTES is', t => {
  enter(t, { NODE_OPTIONS: '--max-http-header-size=20000' });
  const settings = new Settings();
  assert.equal(settings.config.maxHeaderBytes, 20_000);
  assert.equal(settings.environment.MAX_HEADER_BYTES, '20000');
});

test('Node.js options that cannot be split or are refused are bad configuration, together with all other problems', t => {
  enter(t, { WORKER_NODE_OPTIONS: '"open' });
  assert.match(problemsOf(() => new Settings()).join(), /^WORKER_NODE_OPTIONS must be .*got "\\"open"$/);
  process.env.WORKER_NODE_OPTIONS = '--watch';
  const [refused, ...none] = problemsOf(() => new Settings());
  assert.match(refused ?? '', /--watch/);
  assert.deepEqual(none, []);
  process.env.PORT = 'x';
  const both = problemsOf(() => new Settings());
  assert.equal(both[0], refused);
  assert.match(both.slice(1).join(), /^PORT/);
});

test('an app finds the Redis of the kit by REDIS_URL alone: with the host and the login that other variables name', t => {
  const complete = (variables: Record<string, string>) =>
    redisEnvironment(readSettings(variables, new Set()), variables).REDIS_URL;
  const password = join(enter(t).folder, 'password');
  writeFileSync(password, 'from a file');
  for (const [expected, variables] of [
    ['redis://shop-redis:6379', { REDIS_URL: 'redis://', REDIS_HOST: 'shop-redis' }],
    ['redis://[::1]:6380/1', { REDIS_URL: 'redis://:6380/1', REDIS_HOST: '::1' }],
    ['redis://:p%40ss@shop-redis:6379', { REDIS_URL: 'redis://', REDIS_HOST: 'shop-redis', REDIS_PASSWORD: 'p@ss' }],
    ['rediss://shop:p@h:6379/2', { REDIS_URL: 'rediss://h/2', REDIS_USERNAME: 'shop', REDIS_PASSWORD: 'p' }],
    ['redis://shop:p@h:6379', { REDIS_URL: 'redis://shop@h', REDIS_PASSWORD: 'p' }],
    // What was read from a file stays out of the environment.
    ['redis://h:6379', { REDIS_URL: 'redis://', REDIS_HOST: 'h', REDIS_USERNAME: 'shop', REDIS_PASSWORD_FILE: password }],
    // Nothing to add: the text stays as it is.
    [undefined, { REDIS_URL: 'redis://redis:6379' }],
    [undefined, { REDIS_URL: 'redis://:own@h', REDIS_HOST: 'other', REDIS_PASSWORD: 'other' }],
    [undefined, { REDIS_URL: '', REDIS_HOST: 'h', REDIS_PASSWORD: 'p' }],
    [undefined, { REDIS_SENTINELS: 'h:26379', REDIS_SENTINEL_NAME: 'm', REDIS_PASSWORD: 'p' }],
  ] as const)
    assert.equal(complete(variables), expected, JSON.stringify(variables));
});

test('a reload gives the next workers the REDIS_URL of the new settings', t => {
  const { folder } = enter(t, { NODE_ENV: 'development' });
  const host = (name: string) =>
    writeFileSync(join(folder, 'one', '.env'), `REDIS_URL=redis://\nREDIS_HOST=${name}\nREDIS_PASSWORD=p`);
  host('first');
  const settings = new Settings();
  assert.equal(settings.secrets.REDIS_URL, 'redis://:p@first:6379');
  host('second');
  const takeBack = settings.reload();
  assert.equal(settings.secrets.REDIS_URL, 'redis://:p@second:6379');
  takeBack();
  assert.equal(settings.secrets.REDIS_URL, 'redis://:p@first:6379');
});
