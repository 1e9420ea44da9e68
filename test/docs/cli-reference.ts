/**
 * The reference of `bosun` in Markdown: every command with its arguments, options, details and examples, as commander knows them.
 */
import { mock } from 'node:test';
import { Command, type Option } from 'commander';
import { table } from './generated.ts';

/** The options that every command has; the page names them once. */
const COMMON = ['--json', '--socket', '--help'];

/** The program of bosun.ts, which is declared and not run. */
export async function programOf(): Promise<Command> {
  const parse = mock.method(Command.prototype, 'parseAsync', async function (this: Command) {
    return this;
  });
  await import('../../src/cli/bosun.ts');
  parse.mock.restore();
  return (await parse.mock.calls[0]?.result) as Command;
}

/** A section per group, a heading per command. */
export function cliReference(program: Command): string {
  const groups = Map.groupBy(program.commands, command => command.helpGroup());
  return [...groups]
    .flatMap(([group, commands]) => [`## ${group.replace(':', '')}`, ...commands.flatMap(sectionOf)])
    .join('\n\n');
}

function sectionOf(command: Command): string[] {
  const args = command.registeredArguments;
  const usage = ['bosun', command.name(), ...args.map(arg => (arg.required ? `<${arg.name()}>` : `[${arg.name()}]`))];
  const [details = '', examples] = afterHelpOf(command).split(/^Examples:\n/m);
  const choices = args.flatMap(arg => (arg.argChoices ? [`${arg.name()} is ${arg.argChoices.join(', ')}.`] : []));
  const options = command.options.filter(({ long }) => !COMMON.includes(long ?? ''));
  const common = options.length < command.options.length ? [] : ['It has no `--json` and no `--socket`.'];
  return [
    `### \`${usage.join(' ')}\``,
    [sentence(command.description()), ...choices, ...paragraph(details), ...common].join(' '),
    ...(options.length === 0 ? [] : [table(['option', 'meaning'], options.map(optionRow))]),
    ...(examples === undefined ? [] : [`\`\`\`sh\n${examples.replace(/^ {2}/gm, '').trim()}\n\`\`\``]),
  ];
}

const optionRow = ({ flags, description, defaultValue }: Option) => [
  `\`${flags}\``,
  defaultValue === undefined ? description : `${description}; \`${defaultValue}\` by default`,
];

const paragraph = (text: string) => (text.trim() === '' ? [] : [text.trim().replace(/\s*\n\s*/g, ' ')]);

/** What the help prints after the options. */
function afterHelpOf(command: Command): string {
  let printed = '';
  command.configureOutput({ writeOut: text => (printed += text) });
  command.outputHelp();
  return printed.slice(command.helpInformation().length);
}

const sentence = (text: string) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
