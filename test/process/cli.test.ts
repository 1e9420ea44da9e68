/**
 * `bosun` on the command line: wrong usage, help, colors, and what it prints without a primary.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import packageJson from '../../package.json' with { type: 'json' };
import { bosun, Running, startOperated, temporaryFolder } from './operator.ts';

/** Most of a test is waiting. */
const CONCURRENCY = 4;
const EX_USAGE = 64;
const NAMES =
  'start status fleet doctor sizing restart scale cordon uncordon policy broadcast keys heap-snapshot cpu-profile completion help'.split(
    ' ',
  );

describe('bosun', { concurrency: CONCURRENCY }, () => {
  test('bosun exits with 64 after wrong usage and with 1 after another failure, with a message, and changes nothing', async () => {
    const { kit, socket, bosun } = await startOperated({ app: 'koa.mjs' });
    for (const [args, code, message] of [
      ['nonsense', EX_USAGE, /^bosun: unknown command 'nonsense'\nRun "bosun --help"/],
      ['statsu', EX_USAGE, /^bosun: unknown command 'statsu'\n\(Did you mean status\?\)/],
      ['constructor', EX_USAGE, /^bosun: unknown command 'constructor'/],
      ['status --nonsense', EX_USAGE, /^bosun: unknown option '--nonsense'\n/],
      ['status --wach', EX_USAGE, /^bosun: unknown option '--wach'\n\(Did you mean --watch\?\)/],
      ['status --force', EX_USAGE, /^bosun: unknown option '--force'\n/],
      ['status extra', EX_USAGE, /^bosun: too many arguments for 'status'. Expected 0 arguments but got 1/],
      ['restart 2', EX_USAGE, /^bosun: too many arguments for 'restart'/],
      ['scale', EX_USAGE, /^bosun: missing required argument 'N\|auto\|max\|P%'/],
      ['scale 3 4', EX_USAGE, /^bosun: too many arguments for 'scale'/],
      ['cordon', EX_USAGE, /^bosun: missing required argument 'N'/],
      ['cordon x', EX_USAGE, /^bosun: a worker is a whole number of at least 1, got "x"\n$/],
      ['cordon 9', 1, /^bosun: there is no worker 9; there is 1, 2\n$/],
      ['uncordon 0', EX_USAGE, /^bosun: a worker is a whole number of at least 1, got "0"\n$/],
      ['restart --worker 7', 1, /^bosun: there is no worker 7; there is 1, 2\n$/],
      ['restart --worker 1.5', EX_USAGE, /^bosun: a worker is a whole number of at least 1, got "1.5"\n$/],
      ['restart --worker', EX_USAGE, /^bosun: option '--worker <N>' argument missing/],
      ['heap-snapshot --worker 3', 1, /^bosun: there is no worker 3; there is 1, 2\n$/],
      ['cpu-profile --seconds soon', EX_USAGE, /^bosun: --seconds must be a number above 0, got "soon"\n$/],
      ['cpu-profile --seconds 301', 1, /^bosun: seconds must be above 0 and at most 300, got 301\n$/],
      ['policy', EX_USAGE, /^bosun: missing required argument 'NAME'/],
      ['broadcast', EX_USAGE, /^bosun: missing required argument 'EVENT'/],
      ['broadcast bosun:keys', 1, /^bosun: the name of an event must not begin with "bosun:", got "bosun:keys"\n$/],
      ['keys', EX_USAGE, /^bosun: missing required argument 'ACTION'/],
      [
        'keys forge',
        EX_USAGE,
        /^bosun: command-argument value 'forge' is invalid for argument 'ACTION'\. Allowed choices are rotate\./,
      ],
      ['keys rotate', 1, /^bosun: session keys are generated at each start; rotation needs Redis\n$/],
      ['fleet 3', EX_USAGE, /^bosun: too many arguments for 'fleet'/],
      ['broadcast news {text', EX_USAGE, /^bosun: the data of an event must be JSON: /],
      ['sizing --root /nowhere', EX_USAGE, /^bosun: --root must be a folder that holds proc and sys, got "\/nowhere"\n$/],
    ] as const) {
      // The option first: after a missing argument it would be read as that argument.
      const [name = '', ...rest] = args.split(' ');
      const ran = await new Running([name, '--socket', socket, ...rest]).ended;
      assert.deepEqual([ran.code, ran.stdout], [code, ''], args);
      assert.match(ran.stderr, message);
    }
    const { restarts, workers, generation } = await kit.status();
    assert.deepEqual(restarts, { total: 0, byReason: {} });
    assert.deepEqual(
      workers.map(({ state }) => state),
      ['ready', 'ready'],
    );
    assert.equal(generation, 1);
    assert.equal((await bosun('status')).code, 0);
  });

  test('bosun --help prints every command, and without a command the same goes to stderr with exit code 64', async () => {
    const [help, option, nothing] = await Promise.all([['help'], ['--help'], []].map(async args => new Running(args).ended));
    assert.deepEqual([help?.code, help?.stderr], [0, '']);
    assert.deepEqual(option, help);
    assert.deepEqual([nothing?.code, nothing?.stdout, nothing?.stderr], [EX_USAGE, '', help?.stdout]);
    for (const name of NAMES) assert.match(String(help?.stdout), new RegExp(`^  ${name} `, 'm'));
  });

  test('bosun COMMAND --help and bosun help COMMAND print arguments, options and examples, without a primary', async () => {
    for (const [name, ...expected] of [
      ['status', '--watch', '--json', '--socket <PATH>', 'bosun status --watch'],
      ['scale', '<N|auto|max|P%>', '--force', 'bosun scale 50%'],
      ['restart', '--worker <N>', 'bosun restart --worker 2'],
      ['heap-snapshot', '--worker <N>', '--output <FILE>', '--output - >'],
      ['cpu-profile', '--seconds <S>', '--output <FILE>'],
      ['broadcast', '<EVENT> [JSON]', 'bosun broadcast configUpdate'],
      ['sizing', '--root <DIR>'],
      ['start', '[MODULE]', 'bosun start ./server.js'],
    ] as const) {
      const { code, stdout, stderr } = await new Running([name, '--help']).ended;
      assert.deepEqual([code, stderr], [0, ''], name);
      for (const text of expected) assert.ok(stdout.includes(text), `${text} expected in ${stdout}`);
    }
    const [long, short] = [await new Running(['help', 'scale']).ended, await new Running(['scale', '-h']).ended];
    assert.deepEqual(long, short);
  });

  test('bosun --version prints the version of the package', async () => {
    const { code, stdout, stderr } = await new Running(['--version']).ended;
    assert.deepEqual([code, stdout, stderr], [0, `${packageJson.version}\n`, '']);
  });

  test('bosun prints colors with FORCE_COLOR, and none with NO_COLOR or into a pipe', async () => {
    const { socket } = await startOperated({ app: 'koa.mjs' });
    for (const args of [['--help'], ['status', '--socket', socket], ['doctor', '--socket', socket]]) {
      const run = async (env: Record<string, string>) => (await new Running(args, { env }).ended).stdout;
      const [piped, none, forced] = [await run({}), await run({ NO_COLOR: '1' }), await run({ FORCE_COLOR: '1' })];
      for (const plain of [piped, none]) assert.equal(plain, stripVTControlCharacters(plain));
      assert.notEqual(forced, stripVTControlCharacters(forced));
      const shape = (text: string) =>
        stripVTControlCharacters(text)
          .replace(/\d+(\.\d+)?/g, '#')
          .replace(/ +/g, ' ');
      assert.equal(shape(forced), shape(piped));
    }
  });

  test('bosun reports that no primary is running, and exits with 69', async () => {
    const socket = join(temporaryFolder(), 'nobody.sock');
    for (const command of ['status', 'restart', 'doctor', 'heap-snapshot']) {
      const { code, stdout, stderr } = await bosun(socket, [command]);
      assert.deepEqual([code, stdout], [69, '']);
      assert.equal(
        stderr,
        `bosun: no primary is running at ${socket}; set PORT, HOST or CONTROL_SOCKET as for the primary, or use --socket\n`,
      );
    }
  });

  test('bosun reports a primary that exits during a command', async () => {
    const { kit, start } = await startOperated({ app: 'koa.mjs' });
    const restart = start('restart');
    await restart.printed(/^starting worker/);
    kit.signal('SIGKILL');
    const { code, stderr } = await restart.ended;
    assert.deepEqual([code, stderr], [1, 'bosun: the primary ended before it answered\n']);
  });
});
