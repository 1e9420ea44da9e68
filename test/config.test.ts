import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { ConfigError, readConfig, readEnvironment } from '../src/config/config.ts';
import { describeRedis } from '../src/config/redis-address.ts';

function problems(environment: Record<string, string>): readonly string[] {
  try {
    readConfig(environment);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.problems;
  }
  return [];
}

const folder = mkdtempSync(join(tmpdir(), 'bosun-config-'));
after(() => rmSync(folder, { recursive: true }));
function fileOf(name: string, content: string): string {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
}

describe('configuration', () => {
  test('an empty environment gives the defaults, as a frozen configuration', () => {
    const config = readConfig({});
    assert.ok(Object.isFrozen(config));
    assert.deepEqual(config.workers, { kind: 'auto' });
    assert.deepEqual([config.host, config.port, config.adminPort, config.policy], ['0.0.0.0', 3000, 9090, 'least-connections']);
    assert.equal(config.sessionCookie, 'koa:sess');
    assert.equal(config.redisUrl, undefined);
  });

  test('SHUTDOWN_DELAY_MS defaults to 0 outside production', () => {
    assert.equal(readConfig({}).shutdownDelayMs, 0);
    assert.equal(readConfig({ NODE_ENV: 'production' }).shutdownDelayMs, 5000);
    assert.equal(readConfig({ SHUTDOWN_DELAY_MS: '70' }).shutdownDelayMs, 70);
  });

  test('NODE_CLUSTER_WORKERS may be auto, max, a percentage or a number', () => {
    const parse = (text: string) => readConfig({ NODE_CLUSTER_WORKERS: text }).workers;
    assert.deepEqual(parse('max'), { kind: 'max' });
    assert.deepEqual(parse('50%'), { kind: 'share', share: 0.5 });
    assert.deepEqual(parse('100%'), { kind: 'share', share: 1 });
    assert.deepEqual(parse('3'), { kind: 'count', count: 3 });
    assert.deepEqual(parse(''), { kind: 'auto' }, 'empty means unset');
  });

  for (const bad of ['0', '-1', '1.5', '200%', '0%', 'abc', '1e3', ' 2', '٣', '0x2', '99999']) {
    test(`NODE_CLUSTER_WORKERS=${bad} is refused`, () => {
      const [problem, ...more] = problems({ NODE_CLUSTER_WORKERS: bad });
      assert.match(String(problem), /^NODE_CLUSTER_WORKERS must be .*, got ".*" \(environment\)$/);
      assert.deepEqual(more, []);
    });
  }

  test('WEB_CONCURRENCY applies if NODE_CLUSTER_WORKERS is unset, and its errors name it', () => {
    assert.deepEqual(readConfig({ WEB_CONCURRENCY: '4' }).workers, { kind: 'count', count: 4 });
    assert.deepEqual(readConfig({ WEB_CONCURRENCY: '4', NODE_CLUSTER_WORKERS: '2' }).workers, { kind: 'count', count: 2 });
    assert.match(
      String(problems({ WEB_CONCURRENCY: 'two' })[0]),
      /^WEB_CONCURRENCY must be "auto", "max", a percentage or a whole number of at least 1, got "two"/,
    );
  });

  test('all configuration problems are reported at once, each with name, expectation, value and origin', () => {
    const found = problems({
      PORT: '70000',
      LOG_LEVEL: 'loud',
      TRUST_PROXY: 'yes',
      KEEP_ALIVE_TIMEOUT_MS: '0',
      NODE_CLUSTER_SCHED_POLICY: 'random',
    });
    assert.equal(found.length, 5);
    assert.ok(found.includes('PORT must be a port from 0 to 65535, got "70000" (environment)'));
    assert.ok(found.includes('TRUST_PROXY must be "true" or "false", got "yes" (environment)'));
    assert.match(
      String(found.find(line => line.startsWith('NODE_CLUSTER_SCHED_POLICY'))),
      /one of "rr", "none", "reuseport", "least-connections", "response-time"/,
    );
  });

  test('LOG_REQUESTS may be a flag or a percentage', () => {
    const shares = { true: 1, false: 0, '5%': 0.05, '0.5%': 0.005, '100%': 1 };
    for (const [value, share] of Object.entries(shares)) assert.equal(readConfig({ LOG_REQUESTS: value }).logRequests, share);
    for (const value of ['often', '101%', '-5%', '5', '5 %', '%'])
      assert.deepEqual(problems({ LOG_REQUESTS: value }), [
        `LOG_REQUESTS must be "true", "false" or a percentage up to 100%, got "${value}" (environment)`,
      ]);
  });

  test('METRICS_BUCKETS is a list of rising bounds', () => {
    assert.deepEqual(readConfig({ METRICS_BUCKETS: '0.005, 0.1,2' }).metricsBuckets, [0.005, 0.1, 2]);
    assert.equal(readConfig({}).metricsBuckets.length, 13);
    const tooMany = Array.from({ length: 51 }, (_, index) => index + 1).join(',');
    for (const value of ['0.1,0.1', '1,0.5', '0,1', '-1', '0.1,,1', '1e3', '0.1 0.2', 'Infinity', tooMany]) {
      const expected = value.includes(',,')
        ? 'a comma list without empty entries'
        : 'a comma list of at most 50 numbers of seconds above 0, each larger than the one before';
      assert.deepEqual(problems({ METRICS_BUCKETS: value }), [
        `METRICS_BUCKETS must be ${expected}, got "${value}" (environment)`,
      ]);
    }
  });

  for (const url of ['http://redis', 'redis', 'redis://host/one', 'redis://host/-1', 'redis://host:70000', 'redis://host:0']) {
    test(`REDIS_URL=${url} is refused without being printed`, () => {
      const [problem] = problems({ REDIS_URL: url });
      assert.match(String(problem), /^REDIS_URL must be redis:\/\/\[user:password@\]host\[:port\]\[\/db\] or rediss:\/\/…/);
      assert.doesNotMatch(String(problem), /got "/);
    });
  }

  test('REDIS_HOST is the host of a REDIS_URL that has none, and only of that', () => {
    const address = (environment: Record<string, string>) => describeRedis(readConfig(environment));
    assert.equal(address({ REDIS_URL: 'redis://', REDIS_HOST: 'shop-redis' }), 'shop-redis:6379');
    assert.equal(address({ REDIS_URL: 'redis://:6380/1', REDIS_HOST: '::1' }), '[::1]:6380/1');
    assert.equal(address({ REDIS_URL: 'redis://:p@', REDIS_HOST: 'shop-redis' }), 'shop-redis:6379');
    assert.equal(address({ REDIS_URL: 'redis://other', REDIS_HOST: 'shop-redis' }), 'other:6379');
    assert.equal(readConfig({ REDIS_HOST: 'one of the app' }).redisUrl, undefined);
    assert.deepEqual(problems({ REDIS_URL: 'redis://' }), [
      'REDIS_URL must have a host, or REDIS_HOST must name it, got neither',
    ]);
  });

  test('a secret may come from a file, and the line end that editors add is removed', () => {
    const path = fileOf('url', 'redis://user:sesame@redis:6380/2\n');
    const config = readConfig({ REDIS_URL_FILE: path });
    assert.equal(config.redisUrl, 'redis://user:sesame@redis:6380/2');
    assert.equal(describeRedis(config), 'redis:6380/2', 'for people: no credentials');
    assert.deepEqual(readConfig({ SESSION_KEYS_FILE: fileOf('keys', 'new, old\n') }).sessionKeys, ['new', 'old']);
  });

  test('a secret in both a file and a variable, or in a file that does not exist, is refused', () => {
    assert.match(
      String(problems({ SESSION_KEYS: 'a', SESSION_KEYS_FILE: '/x' })[0]),
      /SESSION_KEYS and SESSION_KEYS_FILE are both set/,
    );
    assert.match(
      String(problems({ SESSION_KEYS_FILE: '/nowhere/keys' })[0]),
      /SESSION_KEYS_FILE must be the path of a readable file of .*, got a path that does not exist below "\/": ENOENT \(environment\)/,
    );
  });

  test('a SESSION_COOKIE with __Host- or __Secure- is refused: the prefix is added over TLS', () => {
    for (const name of ['__Host-sess', '__secure-sess'])
      assert.match(
        String(problems({ SESSION_COOKIE: name })[0]),
        /without __Host- or __Secure-, which is added over TLS, got "__/,
      );
  });

  test('variables that contradict each other are refused', () => {
    assert.match(
      String(problems({ HEADERS_TIMEOUT_MS: '2000', REQUEST_TIMEOUT_MS: '1000' })[0]),
      /HEADERS_TIMEOUT_MS must be at most REQUEST_TIMEOUT_MS/,
    );
    assert.match(String(problems({ PORT: '4000', ADMIN_PORT: '4000' })[0]), /ADMIN_PORT must differ from PORT/);
    assert.match(
      String(problems({ REDIS_URL: 'redis://a', REDIS_CLUSTER_NODES: 'b:1' })[0]),
      /only one of .* got REDIS_URL and REDIS_CLUSTER_NODES/,
    );
    assert.match(String(problems({ REDIS_SENTINELS: 'a:1' })[0]), /REDIS_SENTINELS and REDIS_SENTINEL_NAME must be set together/);
    assert.deepEqual(problems({ PORT: '0', ADMIN_PORT: '0' }), []);
  });

  test('SESSION_WAIT_REPLICAS needs a Redis in which WAIT covers a write: none, or a Cluster, is refused', () => {
    const waiting = { SESSION_WAIT_REPLICAS: '1' };
    assert.match(String(problems(waiting)[0]), /SESSION_WAIT_REPLICAS needs a Redis with replicas.*got no Redis/);
    assert.match(String(problems({ ...waiting, REDIS_CLUSTER_NODES: 'a:1' })[0]), /got REDIS_CLUSTER_NODES/);
    assert.deepEqual(problems({ ...waiting, REDIS_URL: 'redis://a' }), []);
    assert.deepEqual(problems({ ...waiting, REDIS_SENTINELS: 'a:1', REDIS_SENTINEL_NAME: 'b' }), []);
    assert.match(String(problems({ SESSION_WAIT_REPLICAS: '6', REDIS_URL: 'redis://a' })[0]), /SESSION_WAIT_REPLICAS must be/);
  });

  test('host lists accept IPv6 addresses in brackets', () => {
    const config = readConfig({ REDIS_CLUSTER_NODES: 'a:6379, [::1]:6380' });
    assert.deepEqual(config.redisClusterNodes, [
      { host: 'a', port: 6379 },
      { host: '::1', port: 6380 },
    ]);
    for (const bad of ['a', 'a:', 'a:0', 'a:99999', 'a:1,', '::1:6379'])
      assert.equal(problems({ REDIS_CLUSTER_NODES: bad }).length, 1, bad);
  });
});

describe('.env', () => {
  fileOf('.env', 'PORT=4100\nHOST=127.0.0.9\nGREETING=hi\n');

  test('.env adds to the environment outside production; real variables win', () => {
    const { environment, fromDotenv } = readEnvironment({ PORT: '4200' }, folder);
    assert.deepEqual([environment.PORT, environment.HOST, environment.GREETING], ['4200', '127.0.0.9', 'hi']);
    assert.deepEqual([...fromDotenv].sort(), ['GREETING', 'HOST']);
  });

  test('.env is not read in production', () => {
    assert.deepEqual(readEnvironment({ NODE_ENV: 'production' }, folder).environment, { NODE_ENV: 'production' });
  });

  test('a .env that exists and cannot be read is a bad configuration; a folder with that name is ignored', () => {
    const other = mkdtempSync(join(tmpdir(), 'bosun-test-'));
    after(() => rmSync(other, { recursive: true }));
    const path = join(other, '.env');
    symlinkSync(path, path); // ELOOP also for root, for whom there is no EACCES
    assert.throws(() => readEnvironment({}, other), /\.env must be a readable file, got ELOOP/);
    rmSync(path);
    mkdirSync(path);
    assert.equal(readEnvironment({ A: 'b' }, other).environment.A, 'b');
  });

  test('.env is named as the origin of a bad value', () => {
    fileOf('.env', 'PORT=nine\n');
    const { environment, fromDotenv } = readEnvironment({}, folder);
    assert.throws(() => readConfig(environment, fromDotenv), /PORT must be a port from 0 to 65535, got "nine" \(\.env\)/);
  });
});

const CA_FILE = join(import.meta.dirname, 'fixtures', 'tls', 'ca.crt');

test('login and CA of Redis are checked before anything connects', () => {
  const url = 'rediss://a';
  assert.deepEqual(readConfig({ REDIS_CLUSTER_NODES: 'a:1', REDIS_USERNAME: 'u', REDIS_PASSWORD: 'p' }).redisPassword, 'p');
  assert.match(String(problems({ REDIS_URL: 'redis://a', REDIS_CA_FILE: CA_FILE })), /must go with a REDIS_URL of rediss/);
  assert.match(String(problems({ REDIS_URL: 'redis://a', REDIS_TLS: 'true' })), /REDIS_TLS must go with a REDIS_URL of rediss/);
  assert.match(String(problems({ REDIS_SENTINEL_PASSWORD: 'p' })), /REDIS_SENTINEL_PASSWORD must go with REDIS_SENTINELS/);
  assert.match(String(problems({ REDIS_CLUSTER_NODES: 'a:1', REDIS_CA_FILE: CA_FILE })), /or with REDIS_TLS/);
  assert.equal(readConfig({ REDIS_CLUSTER_NODES: 'a:1', REDIS_TLS: 'true', REDIS_CA_FILE: CA_FILE }).redisTls, true);
  assert.match(String(problems({ REDIS_URL: url, REDIS_CA_FILE: '/nowhere/ca.pem' })), /path of a readable file of .*: ENOENT/);
  assert.equal(readConfig({ REDIS_URL: url, REDIS_CA_FILE: CA_FILE }).redisCaFile, CA_FILE);
});

test('HOST may be the absolute path of a Unix socket that the kernel takes, and not with reuseport', () => {
  const problemsOf = (environment: Record<string, string>) => {
    try {
      readConfig(environment);
      return [];
    } catch (error) {
      return (error as ConfigError).problems;
    }
  };
  assert.equal(readConfig({ HOST: 'unix:/run/app.sock', PORT: '9090' }).host, 'unix:/run/app.sock');
  assert.match(problemsOf({ HOST: 'unix:@app' }).join(), /HOST must be an address, or unix: and an absolute path/);
  assert.match(problemsOf({ HOST: 'unix:app.sock' }).join(), /an absolute path/);
  assert.deepEqual(problemsOf({ HOST: `unix:/${'a'.repeat(106)}` }), []);
  assert.match(problemsOf({ HOST: `unix:/${'a'.repeat(107)}` }).join(), /at most 107 bytes, as the kernel requires \(108\)/);
  const reuseport = problemsOf({ HOST: 'unix:/run/app.sock', NODE_CLUSTER_SCHED_POLICY: 'reuseport' });
  assert.match(reuseport.join(), /got reuseport: a Unix socket has no SO_REUSEPORT/);
});
