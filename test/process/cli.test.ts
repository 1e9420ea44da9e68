/**
 * `bosun` on the command line: what it refuses, how it explains itself, and what it says without a primary.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { bosun, Running, startOperated, temporaryFolder } from './operator.ts';

/** Most of a test is waiting. */
const CONCURRENCY = 4;
const EX_USAGE = 64;

describe('bosun', { concurrency: CONCURRENCY }, () => {
  test('bosun refuses wrong usage with a clear message, and changes nothing', async () => {
    const { kit, socket, bosun } = await startOperated({ app: 'koa.mjs' });
    for (const [args, code, message] of [
      ['nonsense', EX_USAGE, /^bosun: there is no command "nonsense"\n\nusage: bosun <command>/],
      ['constructor', EX_USAGE, /^bosun: there is no command "constructor"/],
      ['status --nonsense', EX_USAGE, /^bosun: Unknown option '--nonsense'.*\n\nusage: bosun/],
      ['status extra', EX_USAGE, /^bosun: status does not take "extra"/],
      ['restart 2', EX_USAGE, /^bosun: restart does not take "2"/],
      ['scale', EX_USAGE, /^bosun: N\|auto\|max\|P% is missing/],
      ['scale 3 4', EX_USAGE, /^bosun: scale does not take "4"/],
      ['cordon', EX_USAGE, /^bosun: N is missing/],
      ['cordon x', EX_USAGE, /^bosun: a worker is a whole number of at least 1, got "x"\n$/],
      ['cordon 9', 1, /^bosun: there is no worker 9; there is 1, 2\n$/],
      ['uncordon 0', EX_USAGE, /^bosun: a worker is a whole number of at least 1, got "0"\n$/],
      ['restart --worker 7', 1, /^bosun: there is no worker 7; there is 1, 2\n$/],
      ['restart --worker 1.5', EX_USAGE, /^bosun: a worker is a whole number of at least 1, got "1.5"\n$/],
      ['restart --worker', EX_USAGE, /^bosun: Option '--worker.*' argument /],
      ['heap-snapshot --worker 3', 1, /^bosun: there is no worker 3; there is 1, 2\n$/],
      ['cpu-profile --seconds soon', EX_USAGE, /^bosun: --seconds must be a number above 0, got "soon"\n$/],
      ['cpu-profile --seconds 301', 1, /^bosun: seconds must be above 0 and at most 300, got 301\n$/],
      ['policy', EX_USAGE, /^bosun: NAME is missing/],
      ['broadcast', EX_USAGE, /^bosun: EVENT is missing/],
      ['broadcast bosun:keys', 1, /^bosun: the name of an event must not begin with "bosun:", got "bosun:keys"\n$/],
      ['keys', EX_USAGE, /^bosun: rotate is missing/],
      ['keys rotate', 1, /^bosun: session keys are generated at each start; rotation needs Redis\n$/],
      ['fleet 3', EX_USAGE, /^bosun: fleet does not take "3"/],
      ['broadcast news {text', EX_USAGE, /^bosun: the data of an event must be JSON: /],
      ['sizing --root /nowhere', EX_USAGE, /^bosun: --root must be a folder that holds proc and sys, got "\/nowhere"\n$/],
    ] as const) {
      // The option first: behind a missing argument it would be taken for it.
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

  test('bosun prints its help on request, and as an error without a command', async () => {
    const help = await new Running(['help']).ended;
    const option = await new Running(['--help']).ended;
    const nothing = await new Running([]).ended;
    assert.deepEqual([help.code, help.stderr], [0, '']);
    assert.deepEqual(option, help);
    assert.deepEqual([nothing.code, nothing.stdout], [EX_USAGE, '']);
    assert.ok(nothing.stderr.includes(help.stdout.trimEnd()));
    for (const command of [
      'status [--watch]',
      'restart [--worker N]',
      'scale N|auto',
      'cordon N',
      'uncordon N',
      'policy NAME',
      'broadcast EVENT [JSON]',
      'fleet',
      'keys rotate',
      'heap-snapshot [--worker N] [--output FILE|-]',
      'cpu-profile [--worker N] [--seconds S] [--output FILE|-]',
      'doctor',
      'sizing [--root DIR]',
    ])
      assert.ok(help.stdout.includes(`${command}`), `${command} expected in ${help.stdout}`);
  });

  test('bosun reports that no primary is running, and exits with 69', async () => {
    const socket = join(temporaryFolder(), 'nobody.sock');
    for (const command of ['status', 'restart', 'doctor', 'heap-snapshot']) {
      const { code, stdout, stderr } = await bosun(socket, [command]);
      assert.deepEqual([code, stdout], [69, '']);
      assert.equal(
        stderr,
        `bosun: no primary is running at ${socket}; set PORT or CONTROL_SOCKET as it has them, or use --socket\n`,
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
