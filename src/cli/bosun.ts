#!/usr/bin/env node
/**
 * The command line. It imports nothing of the primary or the workers: commands run in the primary, over its control socket, and
 * `bosun start` becomes a primary through main.ts.
 */
import { Argument, CommanderError } from 'commander';
import { ConfigError } from '../config/config.ts';
import { CliExitCode } from '../protocol/exit.ts';
import { declareAppCommands } from './app-commands.ts';
import { CommandError } from './client.ts';
import { declarePoolCommands } from './pool-commands.ts';
import { program, socketOf } from './program.ts';
import { splitArguments } from './start.ts';

const { own: ownArguments, app: appArguments } = splitArguments(process.argv);
program.hook('preAction', (_program, action) => {
  if (action.helpGroup() === 'Run:') return; // a server outlasts the reader of its log
  // A reader that has seen enough closes its end: `bosun init | head`.
  process.stdout.on('error', error => {
    if ((error as NodeJS.ErrnoException).code !== 'EPIPE') throw error;
    process.exit();
  });
});

declareAppCommands(appArguments);
declarePoolCommands();

program
  .command('completion')
  .description('print the completion script for a shell')
  .addArgument(new Argument('<SHELL>', 'the shell').choices(['bash', 'zsh', 'fish']))
  .addHelpText(
    'after',
    '\nExamples:\n  source <(bosun completion bash)\n  bosun completion fish > ~/.config/fish/completions/bosun.fish',
  )
  .action(async (shell: string) => (await import('./completion.ts')).printScript(shell));

/** Sets the exit code of an error, and prints it unless commander has. */
function fail(error: unknown): void {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : CliExitCode.usage;
    return;
  }
  process.stderr.write(`bosun: ${(error as Error).message}\n`);
  process.exitCode =
    error instanceof CommandError ? error.exitCode : error instanceof ConfigError ? CliExitCode.badConfig : CliExitCode.failed;
}

try {
  // The shell scripts call `bosun complete -- WORDS`.
  if (process.argv[2] === 'complete') await (await import('./completion.ts')).complete(program, process.argv.slice(4), socketOf);
  else await program.parseAsync(ownArguments);
} catch (error) {
  fail(error);
}
