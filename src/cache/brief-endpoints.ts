import { parseNet, type Cidr } from '../ip/cidr.ts';
import { briefEndpoint, type BriefEndpoint, type NamedPort, type Scope } from '../model/briefs.ts';
import { isInheritedLabel, isLabelKey, isLabelValue, isResourceName } from '../model/fields.ts';
import { jsonOrUndefined } from '../model/json.ts';
import {
  endpointAnnotations,
  orchestrator,
  workloadEndpointType,
  type WorkloadEndpoint,
} from '../model/kinds/workload-endpoint.ts';
import {
  areTextsOrAbsent,
  fieldsOf,
  isTextListOrAbsent,
  isTextOrAbsent,
  type Fields,
} from './json-fields.ts';

/**
 * Maximum number of values of each kind that are kept for reuse; the table is cleared when it is full. Equal names are
 * far apart, equal label sets near each other; most label sets are unique, and those kept in vain must die young.
 */
const [maxNames, maxSets] = [8192, 512];

type Labels = Readonly<Record<string, string>>;

/**
 * Endpoints of other hosts as a node caches them. There may be hundreds of thousands, so texts of the usual form are
 * checked without the schema, and equal parts are one object; all other texts are left to the schema.
 */
export class BriefEndpoints {
  readonly #texts = new Remembered<string>(maxNames);
  readonly #legalNames = new Remembered<boolean>(maxNames);
  readonly #labels = new Remembered<Labels>(maxSets);
  readonly #scopes = new Remembered<Scope>(maxSets);
  readonly #profiles = new Remembered<readonly string[]>(maxSets);
  readonly #ports = new Remembered<readonly NamedPort[]>(maxSets);
  readonly #aliases = new Remembered<readonly string[]>(maxSets);

  /** Returns the brief of a stored text; throws `datastore/corrupt`. */
  decode(key: string, text: string): BriefEndpoint {
    return this.#quick(text) ?? this.of(workloadEndpointType.decode(key, text));
  }

  /** Returns the brief of an endpoint. */
  of(endpoint: WorkloadEndpoint): BriefEndpoint {
    return this.#shared(briefEndpoint(endpoint));
  }

  /** Returns `undefined` for a text of unusual form, valid or not. */
  #quick(text: string): BriefEndpoint | undefined {
    const { kind, apiVersion, metadata, spec } = fieldsOf(jsonOrUndefined(text));
    if (kind !== 'WorkloadEndpoint' || apiVersion !== 'projectcalico.org/v3') return undefined;
    const names = this.#usualMetadata(fieldsOf(metadata));
    const rest = this.#usualSpec(fieldsOf(spec));
    return names && rest && this.#shared({ ...names, ...rest, prefixes: noPrefixes, ports: [] });
  }

  #usualMetadata(fields: Fields): Pick<BriefEndpoint, 'scope' | 'labels' | 'aliases'> | undefined {
    const { name, namespace, uid, creationTimestamp, resourceVersion, labels, annotations } =
      fields;
    const isUsual =
      typeof name === 'string' &&
      isResourceName(name) &&
      isTextOrAbsent(uid) &&
      isTextOrAbsent(creationTimestamp) &&
      isTextOrAbsent(resourceVersion) &&
      isTextOrAbsent(namespace) &&
      (namespace === undefined || this.#isName(namespace)) &&
      areTextsOrAbsent(annotations) &&
      areTextsOrAbsent(labels) &&
      this.#areLabels(labels ?? {});
    if (!isUsual) return undefined;
    const aliases = annotations?.[endpointAnnotations.aliases]?.split(',') ?? noAliases;
    return { scope: { namespace }, labels: labels ?? {}, aliases };
  }

  #usualSpec(fields: Fields): Pick<BriefEndpoint, 'node' | 'nets' | 'profiles'> | undefined {
    const { orchestrator: owner, node, endpoint, interfaceName, ipNetworks, profiles } = fields;
    // Ports and prefixes are rare and left to the schema.
    const { ports, allowSpoofedSourcePrefixes } = fields;
    if (ports !== undefined || allowSpoofedSourcePrefixes !== undefined) return undefined;
    const { workload, containerID, mac } = fields;
    const isUsual =
      isTextOrAbsent(workload) &&
      isTextOrAbsent(containerID) &&
      isTextOrAbsent(mac) &&
      typeof owner === 'string' &&
      typeof endpoint === 'string' &&
      typeof node === 'string' &&
      this.#isName(node) &&
      typeof interfaceName === 'string' &&
      /^[a-zA-Z0-9_.-]{1,15}$/.test(interfaceName) &&
      isTextListOrAbsent(ipNetworks) &&
      isTextListOrAbsent(profiles);
    const nets = isUsual ? networksOf(ipNetworks ?? []) : undefined;
    return isUsual && nets !== undefined ? { node, nets, profiles: profiles ?? [] } : undefined;
  }

  #isName(text: string): boolean {
    return this.#legalNames.get(`name ${text}`, () => isResourceName(text));
  }

  #areLabels(labels: Labels): boolean {
    for (const key in labels) {
      const value = labels[key] ?? '';
      const isUsual = () => isLabelKey(key) && !isInheritedLabel(key);
      if (!this.#legalNames.get(`key ${key}`, isUsual) || !isLabelValue(value)) return false;
    }
    return true;
  }

  #shared(brief: BriefEndpoint): BriefEndpoint {
    const { scope, node, nets, prefixes, labels, profiles, ports, aliases } = brief;
    return {
      scope: this.#scopes.get(scope.namespace ?? '', () => scope),
      node: this.#text(node),
      nets,
      prefixes: prefixes.length === 0 ? noPrefixes : prefixes,
      labels: this.#labels.get(JSON.stringify(labels), () => {
        const shared: Record<string, string> = { ...labels };
        for (const key in shared) shared[key] = this.#text(shared[key] ?? '');
        return shared;
      }),
      profiles: this.#profiles.get(JSON.stringify(profiles), () => profiles),
      ports: ports.length === 0 ? noPorts : this.#ports.get(JSON.stringify(ports), () => ports),
      aliases:
        aliases.length === 0 ? noAliases : this.#aliases.get(aliases.join(','), () => aliases),
    };
  }

  #text(text: string): string {
    return this.#texts.get(text, () => text);
  }
}

const noPorts: readonly NamedPort[] = [];
const noAliases: readonly string[] = [];
const noPrefixes: readonly Cidr[] = [];

/** Recently created values, by the text they were created from. */
class Remembered<Value> {
  readonly #max: number;
  #values = new Map<string, Value>();

  constructor(max: number) {
    this.#max = max;
  }

  get(key: string, make: () => Value): Value {
    const known = this.#values.get(key);
    if (known !== undefined) return known;
    const made = make();
    if (this.#values.size >= this.#max) this.#values = new Map();
    this.#values.set(key, made);
    return made;
  }
}

/** Returns the networks without duplicates; `undefined` if a text is not a network. */
function networksOf(texts: readonly string[]): readonly Cidr[] | undefined {
  try {
    const nets = texts.map(parseNet);
    return nets.length > 1 ? [...new Set(nets)] : nets;
  } catch {
    return undefined;
  }
}

/** Returns the text of an endpoint with this brief; fields that a brief does not have are empty. */
export function encodeBriefEndpoint(id: string, brief: BriefEndpoint): string {
  const { scope, node, nets, prefixes, labels, profiles, ports, aliases } = brief;
  const { namespace } = scope;
  const endpoint = {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: {
      name: id.slice(id.lastIndexOf('/') + 1),
      ...(namespace === undefined ? {} : { namespace }),
      labels,
      ...(aliases.length === 0
        ? {}
        : { annotations: { [endpointAnnotations.aliases]: aliases.join(',') } }),
    },
    spec: {
      orchestrator: prefixes.length === 0 ? '' : orchestrator,
      node,
      endpoint: '',
      ipNetworks: nets,
      profiles,
      interfaceName: '-',
      ...(ports.length === 0 ? {} : { ports }),
      ...(prefixes.length === 0 ? {} : { allowSpoofedSourcePrefixes: prefixes }),
    },
  };
  return JSON.stringify(endpoint);
}
