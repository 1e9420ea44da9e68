/**
 * `bosun completion SHELL` in the real shells: what a user gets on Tab.
 */
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { ROOT } from './kit.ts';
import { Running, startOperated, temporaryFolder } from './operator.ts';

const run = promisify(execFile);
const missing = (shell: string) => (spawnSync(shell, ['-c', ':']).status === 0 ? false : `no ${shell} here`);

const bin = temporaryFolder();
const CLI = join(ROOT, 'src', 'cli', 'bosun.ts');
writeFileSync(join(bin, 'bosun'), `#!/bin/sh\nexec "${process.execPath}" "${CLI}" "$@"\n`, { mode: 0o755 });

/** How each shell is made to complete a line: a script that prints one candidate per line. */
const COMPLETE = {
  // Without the package bash-completion, and sourced twice.
  bash: `source <(bosun completion bash); source <(bosun completion bash)
complete_line() {
  COMP_WORDS=(); COMP_LINE=$1; read -ra COMP_WORDS <<<"$1"
  [[ $1 == *' ' ]] && COMP_WORDS+=('')
  COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _bosun; printf '%s\\n' "\${COMPREPLY[@]}"
}
complete_line "$LINE"`,
  // Without a terminal, and so without its line editor: what it hands to the editor is printed.
  zsh: `compdef() { }
_describe() { print -rl -- "\${(@)completions%%:*}"; }
_arguments() { print FILES; }
source <(bosun completion zsh)
words=(\${=LINE}); [[ $LINE == *' ' ]] && words+=('')
CURRENT=\${#words}; _bosun`,
  fish: `bosun completion fish | source; complete --do-complete "$LINE" | string replace -r '\\t.*' ''; true`,
} as const;

describe('bosun completion', { concurrency: 3 }, () => {
  async function candidates(shell: keyof typeof COMPLETE, line: string, env: Record<string, string> = {}): Promise<string> {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'server.js'), '');
    const { stdout } = await run(shell, ['-c', COMPLETE[shell]], {
      cwd: folder,
      env: { PATH: `${bin}:${process.env.PATH}`, HOME: folder, ZDOTDIR: folder, TERM: 'dumb', LINE: line, ...env },
    });
    return stdout;
  }

  for (const shell of ['bash', 'zsh', 'fish'] as const) {
    test(`on Tab, ${shell} completes bosun's commands, options and arguments`, { skip: missing(shell) }, async () => {
      const { socket } = await startOperated({ app: 'koa.mjs' });
      for (const [line, expected, unexpected] of [
        ['bosun ', ['status', 'restart', 'heap-snapshot', 'completion'], ['server.js', 'complete ']],
        ['bosun sta', ['start', 'status'], ['scale']],
        ['bosun scale --', ['--force', '--json', '--socket'], ['--watch']],
        ['bosun policy ', ['least-connections', 'rr'], ['server.js']],
        ['bosun restart --worker ', ['1', '2'], ['3', 'server.js']],
      ] as const) {
        const words = (await candidates(shell, line, { CONTROL_SOCKET: socket })).split(/\s+/);
        for (const word of expected) assert.ok(words.includes(word), `${line}: ${word} expected in ${words}`);
        for (const word of unexpected) assert.ok(!words.includes(word), `${line}: ${word} in ${words}`);
      }
    });

    test(`${shell} reads the completion script without an error`, { skip: missing(shell) }, async () => {
      const script = join(temporaryFolder(), `bosun.${shell}`);
      writeFileSync(script, (await new Running(['completion', shell]).ended).stdout);
      assert.deepEqual(await run(shell, ['-n', script]), { stdout: '', stderr: '' });
    });
  }

  test('completion leaves files to the shell for MODULE, --output, --socket and --root, and offers none elsewhere', async () => {
    for (const [words, directive] of [
      [['start', ''], ':0'],
      [['heap-snapshot', '--output', './s'], ':0'],
      [['sizing', '--root', ''], ':0'],
      [['status', '--socket', ''], ':0'],
      [['status', ''], ':4'],
      [['cordon', ''], ':4'],
    ] as const) {
      const { code, stdout } = await new Running(['complete', '--', ...words]).ended;
      assert.deepEqual([code, stdout.trimEnd().split('\n').at(-1)], [0, directive], words.join(' '));
    }
  });

  test('completion does not wait for a primary that does not answer', async () => {
    const { kit, socket } = await startOperated({ app: 'koa.mjs' });
    kit.signal('SIGSTOP');
    try {
      const { code, stdout } = await new Running(['complete', '--', 'cordon', ''], { env: { CONTROL_SOCKET: socket } }).ended;
      assert.deepEqual([code, stdout], [0, ':4\n']);
    } finally {
      kit.signal('SIGCONT');
    }
  });

  test('completion offers the action of keys, the shells and the running workers, and refuses an unknown shell', async () => {
    const { socket } = await startOperated({ app: 'koa.mjs' });
    for (const [word, expected] of [
      ['keys', ['rotate']],
      ['completion', ['bash', 'zsh', 'fish']],
      ['uncordon', ['1', '2']],
    ] as const) {
      const { stdout } = await new Running(['complete', '--', word, ''], { env: { CONTROL_SOCKET: socket } }).ended;
      assert.deepEqual(stdout.trimEnd().split(/\s+/), [...expected, ':4']);
    }
    const { code, stderr } = await new Running(['completion', 'tcsh']).ended;
    assert.equal(code, 64);
    assert.match(stderr, /Allowed choices are bash, zsh, fish\./);
  });

  test('completion in bash evaluates nothing of what is typed', async () => {
    const folder = temporaryFolder();
    await candidates('bash', `bosun status $(touch ${folder}/evaluated) `);
    await assert.rejects(run('ls', [join(folder, 'evaluated')]));
  });
});
