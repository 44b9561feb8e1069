import { isScalar, parseDocument, visit } from 'yaml';
import { CalicoError, describe } from '../../errors/error.ts';
import { parseNet } from '../../ip/cidr.ts';
import { labelValueFor } from '../../model/names.ts';
import { formatTable } from '../table.ts';
import { policyName } from './compose.ts';
import { commandLine, createdBy } from './created-by.ts';
import { parseContainers } from './ends.ts';
import { templates, type Parameter, type Template } from './templates.ts';
import { parseNumber, parsePort } from './traffic.ts';

/** A template with values for its parameters. */
export interface FilledTemplate {
  /** YAML documents that `calico-cnm apply` accepts. */
  readonly documents: readonly string[];
  /** Selectors with the words of their user. */
  readonly containers: ReadonlyMap<string, string>;
  /** The beginning of all commands that apply this template. */
  readonly command: string;
}

/** Returns a table of the templates with their parameters and defaults. */
export function listTemplates(): string {
  return formatTable(
    ['name', 'parameters', 'description'],
    templates.map(({ name, parameters, description }) => [
      name,
      Object.entries(parameters)
        .map(([parameter, { default: value }]) => `${parameter}${value === undefined ? '' : '?'}`)
        .join(' '),
      description,
    ]),
  );
}

/** Returns the parameters of all templates, as help. */
export function parameterHelp(): string {
  const rows = templates.flatMap(({ name, parameters: some }) =>
    Object.entries(some).map(([key, { meaning, default: value = '' }], index) => [
      index === 0 ? name : '',
      key,
      meaning,
      value,
    ]),
  );
  const table = formatTable(['template', 'parameter', 'meaning', 'default'], rows);
  return `\n${table}\nEvery template also has the parameter name, the name of its policy (default: that of the template).`;
}

/** Returns the documents of a template with arguments `PARAMETER=VALUE`. Throws `cli/bad-argument`. */
export function fillTemplate(name: string, args: readonly string[]): FilledTemplate {
  const template = templates.find((one) => one.name === name);
  if (template === undefined) {
    const why = `must be one of ${templates.map((one) => one.name).join(', ')}`;
    throw new CalicoError('cli/bad-argument', { what: `template ${name}`, why });
  }
  const given = parseArguments(template, args);
  const command = `policy template apply ${name}`;
  const words = [...command.split(' '), ...[...given].map(([key, value]) => `${key}=${value}`)];
  const values = new Map<string, unknown>();
  const containers = new Map<string, string>();
  for (const [key, parameter] of Object.entries(template.parameters)) {
    const text = given.get(key) ?? parameter.default;
    if (text === undefined) throw missing(template, key, parameter);
    const value = parsers[parameter.type](`${key}=${text}`, text);
    values.set(key, value);
    if (parameter.type === 'containers' && typeof value === 'string') containers.set(value, text);
  }
  values.set('name', given.get('name') ?? defaultName(template, given));
  const documents = template.documents.map((text) => filled(text, values, commandLine(words)));
  return { documents, containers, command };
}

/** Returns the name of a template, with the label values that its policies are for. */
function defaultName({ name, parameters }: Template, given: ReadonlyMap<string, string>): string {
  const values = Object.entries(parameters).flatMap(([key, { type }]) =>
    type === 'label value' ? (given.get(key) ?? []) : [],
  );
  return policyName([name, ...values], values);
}

/** Returns the arguments in the order of the parameters, so that the same ones are the same command. */
function parseArguments(
  { name, parameters }: Template,
  args: readonly string[],
): ReadonlyMap<string, string> {
  const known = [...Object.keys(parameters), 'name'];
  const given = new Map<string, string>();
  for (const text of args) {
    const at = text.indexOf('=');
    const key = text.slice(0, at);
    if (at < 1 || at === text.length - 1 || !known.includes(key)) {
      const why = `must be PARAMETER=VALUE; template ${name} has ${known.join(', ')}`;
      throw new CalicoError('cli/bad-argument', { what: `"${text}"`, why });
    }
    given.set(key, text.slice(at + 1));
  }
  const inOrder = known.flatMap((key) => {
    const value = given.get(key);
    return value === undefined ? [] : [[key, value] as const];
  });
  return new Map(inOrder);
}

function missing({ name }: Template, key: string, { meaning, type }: Parameter): CalicoError {
  const why = `needs ${key}=VALUE: ${meaning}, such as ${examples[type]}`;
  return new CalicoError('cli/bad-argument', { what: `template ${name}`, why });
}

const examples: Readonly<Record<Parameter['type'], string>> = {
  containers: 'service=db',
  networks: '10.0.0.0/8,fd00::/8',
  ports: '80,8000-8010',
  directions: 'both',
  'label value': 'shop',
  number: '1000',
};

/** Parses the text of a parameter; `what` begins the sentence of an error. */
type Parse = (what: string, text: string) => unknown;

const parsers: Readonly<Record<Parameter['type'], Parse>> = {
  containers: parseContainers,
  networks: (what, text) => text.split(',').map((one) => parsed(what, () => parseNet(one))),
  ports: (what, text) => text.split(',').map((one) => numberedPort(what, one)),
  directions: (what, text) => {
    const types = directions.get(text);
    if (types !== undefined) return types;
    throw new CalicoError('cli/bad-argument', { what, why: 'must be inbound, outbound or both' });
  },
  'label value': (_, text) => labelValueFor(text),
  number: parseNumber,
};

const directions: ReadonlyMap<string, readonly string[]> = new Map([
  ['inbound', ['Ingress']],
  ['outbound', ['Egress']],
  ['both', ['Ingress', 'Egress']],
]);

function parsed<Value>(what: string, parse: () => Value): Value {
  try {
    return parse();
  } catch (error) {
    throw new CalicoError('cli/bad-argument', { what, why: describe(error) }, { cause: error });
  }
}

function numberedPort(what: string, text: string): string | number {
  const { port, protocol } = parsePort(what, text);
  if (protocol === undefined) return port;
  const why = 'must not have a protocol; the template has TCP';
  throw new CalicoError('cli/bad-argument', { what, why });
}

/** Replaces the parameters of a document; its comments stay. */
function filled(text: string, values: ReadonlyMap<string, unknown>, command: string): string {
  const document = parseDocument(text.trimStart());
  visit(document, {
    Scalar: (_, node) => {
      if (!isScalar(node) || typeof node.value !== 'string') return undefined;
      const whole = /^\$([a-z-]+)$/.exec(node.value)?.[1];
      const value = whole === undefined ? undefined : values.get(whole);
      if (value !== undefined) return document.createNode(value, { flow: true });
      node.value = node.value.replaceAll(parameters, (_, key: string) => String(values.get(key)));
      return undefined;
    },
  });
  const path = ['metadata', 'annotations'];
  if (!document.hasIn([...path, createdBy])) {
    if (!document.hasIn(path)) document.setIn(path, document.createNode({}));
    document.setIn([...path, createdBy], command);
  }
  return document.toString({ lineWidth: 0, flowCollectionPadding: false });
}

/** A parameter within a text; a hyphen may follow it there. */
const parameters = /\$(name|project)/g;
