/**
 * Shell completion: the scripts of `bosun completion SHELL`, and the candidates of `bosun complete -- WORDS`, which they call. The
 * protocol, the candidates from commander's declarations, and the scripts of zsh and fish are those of @bomb.sh/tab.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { script } from '@bomb.sh/tab';
import tab from '@bomb.sh/tab/commander';
import type { Command } from 'commander';
import { POLICIES, POLICY_HELP } from '../config/variables.ts';
import type { Status } from '../protocol/api.ts';
import { call } from './client.ts';

/** How long the user waits for the numbers of workers. */
const MAX_WAIT_MS = 500;

/**
 * Instead of tab's: that one needs the package bash-completion, evaluates what is typed (`bosun status $(reboot) <Tab>` would
 * reboot), cannot be sourced twice, and never completes a file. `:4`, the last line of the candidates, means no files.
 */
const BASH = `_bosun() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      :4) compopt +o default 2>/dev/null ;;
      :*) ;;
      *) COMPREPLY+=("\${line%%$'\\t'*}") ;;
    esac
  done < <(bosun complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _bosun bosun`;

/** Prints the completion script of a shell. */
export function printScript(shell: string): void {
  if (shell === 'bash') console.log(BASH);
  else script(shell, 'bosun', 'bosun');
}

/** Prints the candidates for the last of the words after `bosun`, which may be empty. */
export async function complete(
  program: Command,
  words: string[],
  socketOf: (options: { socket?: string }) => string,
): Promise<void> {
  if (isFile(words)) {
    console.log(':0');
    return;
  }
  const model = tab(program, { completionCommandName: UNUSED });
  model.commands.delete(UNUSED); // `bosun completion` is declared with the other commands
  model.commands.get('policy')?.argument('NAME', add => POLICIES.forEach(policy => void add(policy, POLICY_HELP[policy])));
  const command = model.commands.get(words[0] ?? '');
  const ids = command?.options.has('worker') || command?.arguments.has('N') ? await workerIds(socketOf) : [];
  const addIds = (add: (value: string, description: string) => void) => ids.forEach(id => void add(String(id), ''));
  if (command?.arguments.has('N')) command.argument('N', addIds);
  if (words[0] === 'leader') {
    const names = Object.keys((await statusOf(socketOf))?.leader ?? {});
    command?.argument('NAME', add => names.forEach(name => void add(name, '')));
  }
  const option = command?.options.get('worker');
  if (option !== undefined) option.handler = addIds;
  model.parse(words);
  process.exit(); // a primary that does not answer must not block the shell
}

const UNUSED = 'tab';

const FILE_OPTIONS = ['--output', '--socket', '--root', '--watch'];

function isFile(words: readonly string[]): boolean {
  if (FILE_OPTIONS.includes(words.at(-2) ?? '')) return true;
  return (words[0] === 'start' || words[0] === 'dev') && words.length === 2 && words[1]?.startsWith('-') !== true;
}

/** Of the running primary; undefined if it does not answer in time. */
async function statusOf(socketOf: (options: { socket?: string }) => string): Promise<Status | undefined> {
  try {
    const status = call(socketOf({}), 'status');
    const late = sleep(MAX_WAIT_MS, undefined, { ref: false }).then(() => undefined);
    return await Promise.race([status, late]);
  } catch {
    return undefined; // no primary, or a bad configuration: completion stays silent
  }
}

const workerIds = async (socketOf: (options: { socket?: string }) => string): Promise<number[]> =>
  (await statusOf(socketOf))?.workers.map(({ id }) => id) ?? [];
