/**
 * JSON schemas of types in the source, as TypeScript's own checker resolves them. Declared types of the project become definitions; what
 * is not JSON (functions, classes) is an error.
 */
import { join } from 'node:path';
import { API, type Checker, type LiteralType, type Project, SymbolFlags, type Type, TypeFlags } from 'typescript/unstable/sync';
import { ROOT } from './blocks.ts';

export type Schema = Record<string, unknown>;

/**
 * The schemas of these exported types, and of the types that they are made of, by name.
 * @param file of the source, below the root
 */
export function schemasOf(file: string, names: readonly string[]): Record<string, Schema> {
  const api = new API({ cwd: ROOT });
  try {
    const config = join(ROOT, 'tsconfig.json');
    const project = api.updateSnapshot({ openProjects: [config] }).getProject(config);
    if (project === undefined) throw new Error(`${config}: not a project`);
    return new Schemas(project).of(join(ROOT, file), names);
  } finally {
    api.close();
  }
}

const KEYWORDS = [
  [TypeFlags.String, { type: 'string' }],
  [TypeFlags.Number, { type: 'number' }],
  [TypeFlags.Boolean | TypeFlags.BooleanLiteral, { type: 'boolean' }],
  [TypeFlags.Null, { type: 'null' }],
  [TypeFlags.Unknown, {}],
] as const;

const nullLast = (a: unknown, b: unknown) => Number(a === 'null') - Number(b === 'null');

class Schemas {
  readonly #project: Project;
  readonly #definitions: Record<string, Schema> = {};

  constructor(project: Project) {
    this.#project = project;
  }

  get #checker(): Checker {
    return this.#project.checker;
  }

  of(file: string, names: readonly string[]): Record<string, Schema> {
    const source = this.#project.program.getSourceFile(file);
    const module = source && this.#checker.getSymbolAtLocation(source);
    for (const name of names) {
      const symbol = module && this.#checker.getMemberInModuleExports(module, name);
      if (symbol === undefined) throw new Error(`${file} must export ${name}`);
      this.#schemaOf(this.#checker.getDeclaredTypeOfSymbol(symbol));
    }
    return Object.fromEntries(Object.entries(this.#definitions).sort(([a], [b]) => a.localeCompare(b)));
  }

  #schemaOf(type: Type): Schema {
    const name = this.#nameOf(type);
    if (name === undefined) return this.#inline(type);
    if (!(name in this.#definitions)) {
      const definition: Schema = {};
      this.#definitions[name] = definition; // first: a type may contain itself
      Object.assign(definition, this.#documented(type, this.#inline(type)));
    }
    return { $ref: `#/components/schemas/${name}` };
  }

  /** Of a type that the project declares by itself; undefined for one that is written where it is used. */
  #nameOf(type: Type): string | undefined {
    const isGeneric = type.getAliasTypeArguments().length > 0;
    const alias = isGeneric ? undefined : type.getAliasSymbol()?.name;
    if (alias !== undefined) return alias;
    const symbol = type.getSymbol();
    return symbol !== undefined && symbol.flags & SymbolFlags.Interface && !this.#checker.isArrayType(type)
      ? symbol.name
      : undefined;
  }

  #inline(type: Type): Schema {
    if (type.isStringLiteralType() || type.isNumberLiteralType()) return { const: type.value };
    const keyword = KEYWORDS.find(([flags]) => type.flags & flags);
    if (keyword !== undefined) return { ...keyword[1] };
    if (type.isUnionType()) return this.#unionOf(type.getTypes());
    if (type.isTypeReference() && this.#checker.isTupleType(type)) {
      const items = this.#checker.getTypeArguments(type).map(item => this.#schemaOf(item));
      return { type: 'array', prefixItems: items, minItems: items.length, maxItems: items.length };
    }
    if (type.isTypeReference() && this.#checker.isArrayType(type)) {
      const [item] = this.#checker.getTypeArguments(type);
      return { type: 'array', ...(item && { items: this.#schemaOf(item) }) };
    }
    return this.#objectOf(type);
  }

  /** Literals become one enum; `undefined` never gets into JSON. */
  #unionOf(types: readonly Type[]): Schema {
    const defined = types.filter(type => !(type.flags & TypeFlags.Undefined));
    const isLiteral = (type: Type) => type.isStringLiteralType() || type.isNumberLiteralType();
    const literals = defined.filter(isLiteral).map(type => (type as LiteralType).value);
    const others = defined.filter(type => !isLiteral(type)).map(type => this.#schemaOf(type));
    const choices = [...(literals.length > 0 ? [{ enum: literals.sort() }] : []), ...others].sort((a: Schema, b: Schema) =>
      nullLast(a.type, b.type),
    );
    const names = choices.map(({ type, ...rest }: Schema) => (Object.keys(rest).length === 0 ? type : undefined));
    if (names.every(name => name !== undefined))
      return { type: names.length === 1 ? names[0] : [...new Set(names)].sort(nullLast) };
    return choices.length === 1 ? { ...choices[0] } : { anyOf: choices };
  }

  #objectOf(type: Type): Schema {
    const properties: Record<string, Schema> = {};
    const required: string[] = [];
    for (const property of this.#checker.getPropertiesOfType(type)) {
      const value = this.#checker.getTypeOfSymbol(property);
      if (value === undefined || this.#checker.getSignaturesOfType(value, 0).length > 0)
        throw new Error(`${this.#checker.typeToString(type)}: ${property.name} must be JSON`);
      const description = this.#checker.getDocumentationCommentOfSymbol(property);
      properties[property.name] = { ...(description !== '' && { description }), ...this.#schemaOf(value) };
      const mayBeUndefined = value.isUnionType() && value.getTypes().some(({ flags }) => flags & TypeFlags.Undefined);
      if (!(property.flags & SymbolFlags.Optional) && !mayBeUndefined) required.push(property.name);
    }
    const [index] = this.#checker.getIndexInfosOfType(type);
    return {
      type: 'object',
      ...(Object.keys(properties).length > 0 && { properties }),
      ...(required.length > 0 && { required }),
      ...(index && { additionalProperties: this.#schemaOf(index.valueType) }),
    };
  }

  #documented(type: Type, schema: Schema): Schema {
    const symbol = type.getAliasSymbol() ?? type.getSymbol();
    const description = symbol && this.#checker.getDocumentationCommentOfSymbol(symbol);
    return description ? { description, ...schema } : schema;
  }
}
