/**
 * The reference of what an app may import, in Markdown: the exported types of src/index.ts with their docstrings.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ParserOptions, parse } from '@babel/parser';

const SOURCE = join(import.meta.dirname, '..', '..', 'src', 'index.ts');
const OPTIONS: ParserOptions = { sourceType: 'module', plugins: ['typescript'], attachComment: true };

interface Node {
  start?: number | null;
  end?: number | null;
  leadingComments?: readonly { value: string }[] | null;
}

/** A section per exported type, a heading per member. */
export function kitReference(): string {
  const source = readFileSync(SOURCE, 'utf8');
  const textOf = ({ start, end }: Node) => source.slice(start ?? 0, end ?? 0);
  return parse(source, OPTIONS)
    .program.body.flatMap(statement => {
      if (statement.type !== 'ExportNamedDeclaration') return [];
      const { declaration } = statement;
      if (declaration?.type === 'TSTypeAliasDeclaration')
        return [`## ${declaration.id.name}`, docOf(statement), code(textOf(declaration))];
      if (declaration?.type !== 'TSInterfaceDeclaration') return [];
      const members = declaration.body.body.filter(({ leadingComments }) => leadingComments);
      return [`## ${declaration.id.name}`, docOf(statement), ...members.flatMap(member => [code(textOf(member)), docOf(member)])];
    })
    .join('\n\n');
}

function code(text: string): string {
  return `\`\`\`ts\n${text}\n\`\`\``;
}

/** Its docstring in Markdown: `@param` and `@throws` become list items, links become code. */
function docOf({ leadingComments }: Node): string {
  const text = leadingComments?.at(-1)?.value ?? '';
  return text
    .split('\n')
    .map(line => line.replace(/^\s*\*+ ?/, '').trimEnd())
    .join('\n')
    .trim()
    .replace(/\{@link ([\w.]+)\}/g, '`$1`')
    .replace(/\n?@param (\w+) /g, '\n- `$1`: ')
    .replace(/\n?@throws /g, '\n- Throws ')
    .replace(/^(?!- )(.*)\n(?=- )/m, '$1\n\n');
}
