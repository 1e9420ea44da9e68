import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { ConfigError, readConfig, readSettings, readWorkerConfig } from '../src/config/config.ts';
import { secretsEnvironment } from '../src/config/inherited.ts';
import type { Variable } from '../src/config/parse.ts';
import { describeRedis, redisLogin } from '../src/config/redis-address.ts';
import { credential, MAX_SECRET_BYTES, parseRedisUrl } from '../src/config/secrets.ts';
import { variables } from '../src/config/variables.ts';
import { seededRandom } from './random.ts';

const folder = mkdtempSync(join(tmpdir(), 'bosun-secrets-'));
after(() => rmSync(folder, { recursive: true }));
const fileOf = (content: string | Buffer) => {
  const path = join(folder, String(randomInt(2 ** 47)));
  writeFileSync(path, content);
  return path;
};

function problems(environment: Record<string, string>): string {
  try {
    readConfig(environment);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems.join('\n');
  }
  return '';
}

describe('what surrounds a secret', () => {
  const SURROUNDED = {
    'a line end of an editor': 'p4ss\n',
    'a line end of Windows': 'p4ss\r\n',
    'an empty line before and after': '\n\np4ss\n\n',
    'a byte order mark': '\uFEFFp4ss',
    'double quotes': '"p4ss"',
    'single quotes and a line end': "'p4ss'\n",
    'a byte order mark, quotes and a line end': '\uFEFF"p4ss"\r\n',
  };
  for (const [what, text] of Object.entries(SURROUNDED)) {
    test(`${what} around a secret is removed, in a variable and in a file`, () => {
      const nodes = { REDIS_CLUSTER_NODES: 'a:1', REDIS_USERNAME: text };
      const expected = ['p4ss', 'p4ss', ['p4ss']];
      for (const environment of [
        { ...nodes, REDIS_PASSWORD: text, SESSION_KEYS: text },
        { ...nodes, REDIS_PASSWORD_FILE: fileOf(text), SESSION_KEYS_FILE: fileOf(text) },
      ]) {
        const { redisPassword, redisUsername, sessionKeys } = readConfig(environment);
        assert.deepEqual([redisPassword, redisUsername, sessionKeys], expected);
      }
    });
  }

  test('SESSION_KEYS may have one key per line', () => {
    for (const text of ['new\nold\n', 'new\r\nold', 'new,\nold\n', 'new, old', '"new,old"', '\n new \n\n old \n'])
      assert.deepEqual(readConfig({ SESSION_KEYS: text }).sessionKeys, ['new', 'old'], JSON.stringify(text));
  });

  test('quotes, spaces and special characters within a password are part of the password', () => {
    for (const password of [`it's "quoted"`, '"', `a"b'c`, '100%', 'a b', '#@/:?', 'pässwörd', '-'])
      assert.equal(credential(password), password);
  });

  const URLS: [string, string, string, Partial<ReturnType<typeof parseRedisUrl>>][] = [
    ['an escaped %', 'redis://:pa%25ss@h', 'redis://:pa%25ss@h', { password: 'pa%ss' }],
    [
      '# / ? and @ as they are',
      'redis://u:p#a/s?s@x@h:1/2',
      'redis://u:p%23a%2Fs%3Fs%40x@h:1/2',
      { password: 'p#a/s?s@x', db: 2 },
    ],
    ['a colon in the password', 'redis://u:a:b@h', 'redis://u:a%3Ab@h', { username: 'u', password: 'a:b' }],
    ['an upper-case scheme', 'REDISS://h', 'rediss://h', { tls: true, username: undefined, password: undefined }],
    ['an IPv6 address', 'redis://[::1]:6380/', 'redis://[::1]:6380', { host: '::1', port: 6380, db: 0 }],
    ['an empty login', 'redis://:@h', 'redis://h', { password: undefined }],
    ['an empty password', 'redis://u:@h', 'redis://u:@h', { username: 'u', password: '' }],
    ['a version of IP', 'redis://h?family=6', 'redis://h?family=6', { family: 6 }],
    ['quotes and a line end', '"redis://h/1"\n', 'redis://h/1', { host: 'h', db: 1 }],
  ];
  for (const [what, text, normal, parts] of URLS) {
    test(`REDIS_URL may have ${what}`, () => {
      assert.equal(readConfig({ REDIS_URL: text }).redisUrl, normal);
      assert.equal(readConfig({ REDIS_URL: normal }).redisUrl, normal, 'its normal form is itself');
      const parsed = parseRedisUrl(text);
      assert.deepEqual({ ...parsed, ...parts }, parsed);
      assert.doesNotMatch(describeRedis(readConfig({ REDIS_URL: text })), /p|u/);
    });
  }

  test('REDIS_PASSWORD completes the user of REDIS_URL', () => {
    assert.equal(readConfig({ REDIS_URL: 'redis://u@h', REDIS_PASSWORD: 'p' }).redisPassword, 'p');
    assert.match(problems({ REDIS_URL: 'redis://p4ss@h' }), /^REDIS_URL has a user without a password, expected user:password@/);
  });

  const LOGINS: [url: string, username: string | undefined, password: string | undefined][] = [
    ['redis://h', 'name', 'word'],
    ['redis://u@h', 'u', 'word'],
    ['redis://u:p@h', 'u', 'p'],
    ['redis://u:@h', 'u', 'word'],
    ['redis://:p@h', 'name', 'p'],
  ];
  for (const [url, username, password] of LOGINS)
    test(`the login of ${url} beside REDIS_USERNAME and REDIS_PASSWORD is ${username} with ${password}`, () => {
      const beside = { REDIS_URL: url, REDIS_USERNAME: 'name', REDIS_PASSWORD: 'word' };
      assert.deepEqual(redisLogin(readConfig(beside)), { username, password });
    });

  test('a login is complete, or missing, in REDIS_URL alone and without one', () => {
    assert.deepEqual(redisLogin(readConfig({ REDIS_URL: 'redis://h' })), {});
    assert.deepEqual(redisLogin(readConfig({ REDIS_CLUSTER_NODES: 'a:1', REDIS_PASSWORD: 'word' })), { password: 'word' });
  });
});

describe('a secret that is set and empty', () => {
  const SECRETS = Object.values<Variable<unknown>>(variables).flatMap(({ secret, name }) => (secret ? [name] : []));
  for (const name of SECRETS.filter(each => each !== 'REDIS_URL'))
    test(`an empty ${name} is refused, and not taken as unset`, () => {
      assert.match(
        problems({ [name]: '' }),
        new RegExp(`^${name} must be a value, or not set at all, got an empty text \\(environment`),
      );
    });
  for (const name of SECRETS)
    test(`an empty ${name}_FILE is refused, and so is a file that is empty or blank`, () => {
      assert.match(
        problems({ [`${name}_FILE`]: '' }),
        new RegExp(`^${name}_FILE must be the path of a file, or not set at all, got an empty`),
      );
      for (const content of ['', '\n', ' \n'])
        assert.match(
          problems({ [`${name}_FILE`]: fileOf(content) }),
          new RegExp(`^${name} must be .*bosun-secrets-`),
          JSON.stringify(content),
        );
    });

  test('the problem names the key of the Secret that the manifests read', () => {
    assert.match(problems({ SESSION_KEYS: '' }), /\(environment; in k8s\/ it is the key keys of the Secret session-keys\)$/);
    assert.match(problems({ REDIS_PASSWORD: '' }), /the key password of the Secret redis\)$/);
    assert.match(problems({ ADMIN_TOKEN: '' }), /the key token of the Secret admin-token\)$/);
  });

  test('an empty REDIS_URL counts as unset, and takes back an inherited one', () => {
    assert.equal(readConfig({ REDIS_URL: '' }).redisUrl, undefined);
    const sentinels = { REDIS_SENTINELS: 'a:26379', REDIS_SENTINEL_NAME: 'main' };
    assert.equal(problems({ ...sentinels, REDIS_URL: '' }), '');
    assert.match(
      problems({ ...sentinels, REDIS_URL: 'redis://h' }),
      /got REDIS_URL and REDIS_SENTINELS; an empty REDIS_URL counts as unset/,
    );
  });
});

describe('an invalid secret is refused and not printed', () => {
  const REFUSED: [string, RegExp][] = [
    ['c4nary\nc4nary', /a single line/],
    [' c4nary', /without leading or trailing white space/],
    ['c4nary\u00A0', /without leading or trailing white space/],
    ['c4\0nary', /without control characters/],
    ['c4\x1bnary', /without control characters/],
    ['c4\uFFFDnary', /valid UTF-8/],
    ['c4\uD800nary', /valid UTF-8/],
    ['"c4"nary"', /without surrounding quotes/],
    ['""', /non-empty text/],
    ['\uFEFF\r\n', /non-empty text/],
  ];
  for (const [text, problem] of REFUSED) {
    test(`the secret ${JSON.stringify(text)} is refused and not printed`, () => {
      for (const name of ['REDIS_PASSWORD', 'REDIS_SENTINEL_PASSWORD', 'REDIS_URL']) {
        const said = problems({ [name]: text });
        assert.match(said, problem);
        assert.doesNotMatch(said, /c4|nary/);
        assert.match(
          said,
          new RegExp(`^${name} must be .*, got a value that is not \\(hidden: it is a secret\\) \\(environment\\)$`),
        );
      }
    });
  }

  for (const url of [
    'redis://:pa%ss@h',
    'redis://:100%@h',
    'redis://:%e4@h',
    'redis://us%er:p@h',
    'redis://:p%20a%ss@h',
    ' redis://:p@h',
    'redis://:p@h ',
    'redis://:p@h:0',
    'redis://:p@h:65536',
    'redis://:p@h/one',
    'redis://:p@h?db=1',
    'redis://:p@h/0#x',
    'redis:/h',
    'h:6379',
    '/tmp/redis.sock',
    '"redis://h',
    'redis://h"',
  ])
    test(`REDIS_URL=${url} is refused and not printed`, () =>
      assert.match(problems({ REDIS_URL: url }), /^REDIS_URL must be .*, got a value that is not/));

  test('a % in REDIS_URL that is not an escape causes the hint to write %25', () => {
    assert.match(problems({ REDIS_URL: 'redis://:pa%ss@h' }), /each % in user and password written as %25/);
  });

  const unreadable: [string, string, RegExp][] = [
    ['a folder', folder, /: EISDIR \(environment\)$/],
    ['an empty file', fileOf(''), /non-empty text, got "" \(/],
    ['a file of line ends only', fileOf('\n\r\n'), /non-empty text, got a value/],
    ['a large file', fileOf('c4nary'.repeat(MAX_SECRET_BYTES)), /at most 16384 bytes .* which is larger/],
    ['a file without an end', '/dev/zero', /\/dev\/zero": not a regular file/],
    ['not UTF-8', fileOf(Buffer.from('c4n\xe4ry', 'latin1')), /: not UTF-8/],
    ['UTF-16, as PowerShell writes it', fileOf(Buffer.from('\uFEFFc4nary', 'utf16le')), /: not UTF-8/],
    ['a file with a NUL character', fileOf('c4\0nary'), /without control characters/],
    ['missing', join(folder, 'c4nary'), /a path that does not exist below ".*bosun-secrets-.*": ENOENT/],
    ['named by the secret itself', 'redis://:c4nary@h', /a path that does not exist below/],
    ['named by a long secret', `/${'c4nary'.repeat(1000)}`, /more than 4096 characters/],
  ];
  for (const [what, path, problem] of unreadable) {
    test(`a secret file that is ${what} is refused, and its content not printed`, () => {
      const said = problems({ REDIS_PASSWORD_FILE: path, REDIS_CLUSTER_NODES: 'a:1' });
      assert.match(said, problem);
      assert.doesNotMatch(said, /c4|nary/);
    });
  }

  test('a REDIS_CA_FILE without a certificate is refused', () => {
    const environment = { REDIS_URL: 'rediss://h' };
    assert.match(
      problems({ ...environment, REDIS_CA_FILE: fileOf('no PEM') }),
      /must be a file of PEM certificates, got ".*", which has none/,
    );
    assert.match(problems({ ...environment, REDIS_CA_FILE: folder }), /EISDIR/);
    assert.match(String(readConfig({ ...environment, REDIS_CA_FILE: 'test/fixtures/tls/ca.crt' }).redisCa), /BEGIN CERTIFICATE/);
  });
});

test('any text in any secret variable is accepted or a ConfigError that does not show it', t => {
  const seed = randomInt(2 ** 31);
  t.diagnostic(`seed ${seed}`);
  const next = seededRandom(seed);
  const random = (limit: number) => Math.floor(next() * limit);
  const parts = [
    '%',
    '%2',
    '%41',
    '#',
    '@',
    '/',
    ':',
    '?',
    ' ',
    '\n',
    '\r\n',
    '\t',
    '\0',
    '"',
    "'",
    '\uFEFF',
    '\uFFFD',
    '\uD800',
    'é',
    '🔑',
    ',',
    'redis://',
    'rediss://',
    'h',
    ':6379',
    '/0',
    '[::1]',
    '\\',
    '$&',
    'x'.repeat(300),
  ];
  const names = Object.values(variables).flatMap(row => ('secret' in row && row.secret ? [row.name] : []));
  assert.ok(names.length >= 4);
  for (let round = 0; round < 3000; round++) {
    const canary = `Qz${random(1e6)}Zq`;
    const pick = () => parts[random(parts.length)] ?? '';
    const around = () => Array.from({ length: random(5) }, pick).join('');
    const text = `${random(2) ? 'redis://u:' : ''}${around()}${canary}${around()}${random(2) ? '@h' : ''}`;
    const name = names[random(names.length)] ?? '';
    const inFile = random(4) === 0;
    const environment = {
      REDIS_CLUSTER_NODES: random(2) ? 'a:1' : '',
      [inFile ? `${name}_FILE` : name]: inFile ? fileOf(text) : text,
    };
    try {
      const config = readConfig(environment);
      // As a current server would use it.
      if (config.redisUrl !== undefined) new URL(config.redisUrl);
      // The canary may be the host name, which is not a secret.
      if (text.includes('@'))
        assert.ok(!describeRedis(config).includes(canary) || text.lastIndexOf(canary) > text.lastIndexOf('@'));
    } catch (error) {
      assert.ok(error instanceof ConfigError, `${JSON.stringify(text)} (seed ${seed}): ${error}`);
      assert.ok(
        !`${error.message}${error.stack}${error.cause}`.includes(canary),
        `${JSON.stringify(text)} (seed ${seed}): ${error.message}`,
      );
    }
  }
});

test('a worker uses the secrets that its primary has read, even if the files have changed', () => {
  const path = fileOf('redis://:p4ss@h\n');
  const { config, fromFiles } = readSettings({ REDIS_URL_FILE: path }, new Set());
  writeFileSync(path, 'redis://:new%pass@h');
  const environment: Record<string, string | undefined> = { REDIS_URL_FILE: path, ...secretsEnvironment(fromFiles) };
  assert.equal(readWorkerConfig(environment).redisUrl, config.redisUrl);
  assert.deepEqual(environment, { REDIS_URL_FILE: path }, 'what the app and its children find');
  rmSync(path);
  mkdirSync(path);
  assert.equal(readWorkerConfig({ ...environment, ...secretsEnvironment(fromFiles) }).redisUrl, config.redisUrl);
});
