/**
 * The program that all commands are declared at: its help, its exit codes, and what each command has.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { styleText } from 'node:util';
import { Command } from 'commander';
import { readEnvironment } from '../config/config.ts';
import { CLI_EXIT_CODE_MEANINGS } from '../protocol/exit.ts';
import { controlPath } from './control-path.ts';
import { DETAILS } from './details.ts';

/** The options of every command. */
export interface Common {
  json?: true;
  socket?: string;
}

const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '..', '..', 'package.json'), 'utf8')) as {
  version: string;
};

const EXIT_CODES = Object.entries(CLI_EXIT_CODE_MEANINGS)
  .map(entry => entry.join(' '))
  .join(', ');

export const program = new Command('bosun')
  .description('Operates a koa-bosun deployment: the primary on this machine, over its control socket.')
  .usage('<command> [options]')
  .version(version, '-V, --version', 'print the version')
  .helpOption('-h, --help', 'print this help')
  .helpCommand('help [command]', 'print the help of a command')
  .commandsGroup('More:')
  .configureHelp({
    styleTitle: title => styleText('bold', title, { validateStream: false }),
    styleCommandText: name => styleText('bold', name, { validateStream: false }),
    styleSubcommandTerm: term => styleText('bold', term, { validateStream: false }),
  })
  .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'bosun: ')) })
  .showHelpAfterError('Run "bosun --help" or "bosun help COMMAND".')
  .exitOverride()
  .addHelpText('after', `\nExit codes: ${EXIT_CODES}.`);

/** Declares a command with the options that all commands have. */
export function command(group: string, usage: string, summary: string, examples: string[] = []): Command {
  const declared = program
    .command(usage)
    .description(summary)
    .helpGroup(`${group}:`)
    .option('--json', 'print JSON')
    .option('--socket <PATH>', 'control socket (default: from PORT or CONTROL_SOCKET)');
  const details = DETAILS[declared.name()];
  if (details !== undefined) declared.addHelpText('after', `\n${details}`);
  return examples.length === 0 ? declared : declared.addHelpText('after', `\nExamples:\n  ${examples.join('\n  ')}`);
}

/** The control socket of a primary with this environment. */
export function socketOf({ socket }: Common): string {
  if (socket !== undefined) return socket;
  const { environment, fromDotenv } = readEnvironment();
  return controlPath(environment, fromDotenv);
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
