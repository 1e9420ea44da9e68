/**
 * Every secret of the table of variables, and every way in which an app prints, copies or logs the configuration: none shows its value, and
 * reading the field still gives it. The output of a running pod is searched in test/process/secrets.test.ts.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { format, type InspectOptions, inspect } from 'node:util';
import { serialize } from 'node:v8';
import { type Config, ConfigError, readConfig } from '../src/config/config.ts';
import type { Variable } from '../src/config/parse.ts';
import { SECRETS, variables } from '../src/config/variables.ts';
import { createLog } from '../src/log/log.ts';
import { redisSettings } from '../src/state/connection.ts';
import type { Redis } from '../src/state/ioredis.ts';
import { closeRedis, connectRedis } from '../src/state/redis.ts';

const MARKER = 'm4rk3r';
const folder = mkdtempSync(join(tmpdir(), 'bosun-secrets-'));
after(() => rmSync(folder, { recursive: true }));

/** A value of a secret with the marker: itself, or a URL with it as password. */
function sampleOf({ parse }: Variable<unknown>, marker = MARKER): string {
  const url = `redis://:${marker}@127.0.0.1:1`;
  try {
    parse(marker);
    return marker;
  } catch {
    return url;
  }
}

/** What a secret needs beside it, to be a valid configuration. */
const beside = (name: string) => (/SENTINEL/.test(name) ? { REDIS_SENTINELS: '127.0.0.1:1', REDIS_SENTINEL_NAME: 'main' } : {});

/** The text of everything that the log writes while `use` runs. */
function logged(use: (log: ReturnType<ReturnType<typeof createLog>>) => void): string {
  const lines: string[] = [];
  use(createLog('trace', {}, line => lines.push(line))());
  assert.ok(lines.length > 0);
  return lines.join('');
}

const withConfig = (config: Config) => Object.assign(new Error('failed', { cause: config }), { config, deep: { config } });

/** Ways of an app to write its configuration somewhere. */
const OUTPUTS: Record<string, (config: Config, key: keyof Config, name: string) => unknown> = {
  'JSON.stringify': config => JSON.stringify({ config, list: [config], error: withConfig(config) }),
  'a copy by spread': config => JSON.stringify({ ...config, nested: { ...config } }),
  'Object.entries': config => JSON.stringify(Object.entries(config)),
  'Object.assign': config => JSON.stringify(Object.assign({}, config)),
  structuredClone: config => JSON.stringify(structuredClone(config)),
  'v8.serialize': config => serialize(config).toString('latin1'),
  'a query string': config => new URLSearchParams(config as unknown as Record<string, string>).toString(),
  'console.log': config => format('%s %o %O %j', config, config, config, config) + format(config, { config }),
  'util.inspect': config =>
    ([{}, { depth: null }, { showHidden: true, depth: null }, { customInspect: false, compact: 9 }] satisfies InspectOptions[])
      .map(options => inspect({ config, error: withConfig(config) }, options))
      .join(),
  'kit.log': config => logged(log => log.info({ config, settings: { inner: config }, list: [config] })),
  'kit.log with the fields': config => logged(log => log.info(config)),
  'kit.log of an error': config => logged(log => [log.error(withConfig(config)), log.error({ err: withConfig(config) })]),
  'a message of kit.log': config => logged(log => log.info('%o %O %j', config, config, config)),
  'child bindings': config =>
    logged(log => [
      log.child({ config }).info('x'),
      log
        .child({ ...config })
        .child({ deep: { config } })
        .info('x'),
    ]),
  'kit.log of the secret itself': (config, key) =>
    logged(log => [
      log.info({ [key]: config[key] }),
      log.info({ settings: { [key]: config[key] } }),
      log.child({ [key]: config[key] }).info('x'),
    ]),
  'kit.log of the environment': (config, key, name) =>
    logged(log => [log.info({ [name]: config[key] }), log.info({ env: { [name]: config[key] } })]),
};

test('the table has secrets, and the list of them is that of the table', () => {
  assert.deepEqual(
    SECRETS,
    Object.entries<Variable<unknown>>(variables)
      .filter(([, { secret }]) => secret)
      .map(([key, { name }]) => ({ key, name })),
  );
  assert.ok(SECRETS.length >= 5);
});

for (const { key, name } of SECRETS as { key: keyof typeof variables; name: string }[]) {
  const row: Variable<unknown> = variables[key];

  describe(name, () => {
    for (const from of ['its variable', 'a file'] as const) {
      const file = join(folder, name);
      writeFileSync(file, `${sampleOf(row)}\n`);
      const environment = from === 'a file' ? { [`${name}_FILE`]: file } : { [name]: sampleOf(row) };
      const config = readConfig({ ...beside(name), ...environment });

      test(`from ${from} is read by its field, and cannot be set`, () => {
        assert.match(String(config[key]), new RegExp(MARKER));
        assert.ok(key in config && Object.isFrozen(config));
        assert.throws(() => Object.assign(config, { [key]: 'other' }), TypeError);
      });

      test(`from ${from} is in nothing that an app prints, copies or logs`, () => {
        for (const [way, output] of Object.entries(OUTPUTS)) {
          const text = String(output(config, key, name));
          assert.ok(text.length > 0, way);
          assert.ok(!text.includes(MARKER), `${way}: ${text.slice(0, 2000)}`);
        }
      });
    }

    test('is in no error of the configuration', () => {
      const invalid = [`${sampleOf(row)}\u0001`, `${sampleOf(row)}\nsecond\u0001`, `${MARKER}%zz @\u0001`];
      const file = join(folder, `${name}-invalid`);
      for (const text of invalid) {
        writeFileSync(file, text);
        for (const environment of [{ [name]: text }, { [`${name}_FILE`]: file }])
          assert.throws(
            () => readConfig(environment),
            error => error instanceof ConfigError && !inspect(error, { showHidden: true, depth: null }).includes(MARKER),
          );
      }
    });

    test('is part of the settings that are compared when it is one of Redis or of the sessions', () => {
      const settings = (marker: string) => redisSettings(readConfig({ ...beside(name), [name]: sampleOf(row, marker) }));
      const isCompared = key !== 'adminToken';
      assert.equal(settings('one') !== settings('two'), isCompared);
    });
  });
}

test('a client of Redis shows its state and not its password, and nor does a copy of it', async () => {
  const config = readConfig({ REDIS_URL: `redis://:${MARKER}@127.0.0.1:1` });
  const client = connectRedis(config, 'test', () => undefined) as Redis;
  const copy = client.duplicate();
  copy.on('error', () => undefined);
  try {
    for (const redis of [client, copy]) {
      const text =
        JSON.stringify({ redis }) + inspect({ redis }, { depth: null, showHidden: true }) + logged(log => log.info({ redis }));
      assert.ok(!text.includes(MARKER), text);
      assert.match(text, /"redis":\{"status":"\w+"\}/);
      const { options } = redis;
      const shown =
        JSON.stringify({ options }) +
        inspect({ options }, { depth: null, showHidden: true }) +
        logged(log => log.info({ options }));
      assert.ok(!shown.includes(MARKER), shown);
      assert.match(shown, /connectTimeout: \d/);
      assert.equal(options.password, MARKER);
    }
  } finally {
    copy.disconnect();
    await closeRedis(client);
  }
});
