#!/usr/bin/env node
/**
 * The operator's command line. It imports nothing of the primary or the workers.
 */
import { parseArgs } from 'node:util';
import { sizingCommand } from './sizing.ts';

const USAGE = `usage: bosun <command> [options]

  sizing [--json] [--root DIR]   how many workers this container should run, and why; with --root: as seen below another root
`;

/** Bad usage, as sysexits has it. */
const EX_USAGE = 64;

function run(args: string[]): number {
  const [command, ...rest] = args;
  try {
    switch (command) {
      case 'sizing': {
        const { values } = parseArgs({ args: rest, options: { json: { type: 'boolean' }, root: { type: 'string' } } });
        process.stdout.write(sizingCommand({ json: values.json ?? false, root: values.root ?? '/' }));
        return 0;
      }
      case 'help':
      case '--help':
      case undefined:
        process.stdout.write(USAGE);
        return command === undefined ? EX_USAGE : 0;
      default:
        process.stderr.write(`bosun: there is no command "${command}"\n\n${USAGE}`);
        return EX_USAGE;
    }
  } catch (error) {
    process.stderr.write(`bosun: ${(error as Error).message}\n`);
    return error instanceof Error && error.name === 'ConfigError' ? 78 : EX_USAGE;
  }
}

process.exitCode = run(process.argv.slice(2));
