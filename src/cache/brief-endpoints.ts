import { parseNet, type Cidr } from '../ip/cidr.ts';
import { isLabelKey, isLabelValue, isResourceName } from '../model/fields.ts';
import { workloadEndpointType, type WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';

/** So many texts and sets of labels are remembered, for the next that are equal; then it begins anew. */
const mostRemembered = 8192;

type Labels = Readonly<Record<string, string>>;
type Fields = Readonly<Record<string, unknown>>;

/**
 * Endpoints of other hosts as a node holds them: what policy and address management look at, which are names, labels,
 * host, addresses, Profiles and ports. There may be hundreds of thousands, so what is as usual is checked by hand, and
 * equal parts are one object; what is not is left to the schema.
 */
export class BriefEndpoints {
  readonly #texts = new Remembered<string>();
  readonly #labels = new Remembered<Labels>();
  readonly #profiles = new Remembered<string[]>();

  /** The brief of a stored text; throws `datastore/corrupt`. */
  decode(key: string, text: string): WorkloadEndpoint {
    return this.#quick(key, text) ?? this.of(workloadEndpointType.decode(key, text));
  }

  /** The brief of an endpoint. */
  of({ kind, apiVersion, metadata, spec }: WorkloadEndpoint): WorkloadEndpoint {
    const { name, namespace, labels } = metadata;
    const { orchestrator, node, endpoint, ipNetworks, profiles, interfaceName, ports } = spec;
    return {
      kind,
      apiVersion,
      metadata: {
        name,
        ...(namespace === undefined ? {} : { namespace: this.#shared(namespace) }),
        ...(labels === undefined ? {} : { labels: this.#sharedLabels(labels) }),
      },
      spec: {
        orchestrator: this.#shared(orchestrator),
        node: this.#shared(node),
        endpoint: name.endsWith(endpoint) ? name.slice(name.length - endpoint.length) : endpoint,
        ...(ipNetworks === undefined ? {} : { ipNetworks }),
        ...(profiles === undefined ? {} : { profiles: this.#sharedProfiles(profiles) }),
        interfaceName,
        ...(ports === undefined ? {} : { ports }),
      },
    };
  }

  /** `undefined` for what is not as usual, right or wrong. */
  #quick(key: string, text: string): WorkloadEndpoint | undefined {
    const { kind, apiVersion, metadata, spec } = fieldsOf(parsed(text));
    if (kind !== 'WorkloadEndpoint' || apiVersion !== 'projectcalico.org/v3') return undefined;
    const names = usualMetadata(fieldsOf(metadata));
    const rest = usualSpec(fieldsOf(spec));
    if (names === undefined || rest === undefined) return undefined;
    // The key is held in any case, and ends with the name: a part of it takes less than a text of its own.
    const name = key.endsWith(names.name) ? key.slice(key.length - names.name.length) : names.name;
    return this.of({ kind, apiVersion, metadata: { ...names, name }, spec: rest });
  }

  #shared(text: string): string {
    return this.#texts.get(text, () => text);
  }

  #sharedLabels(labels: Labels): Labels {
    return this.#labels.get(JSON.stringify(labels), () => {
      const shared: Record<string, string> = {};
      for (const [key, value] of Object.entries(labels)) shared[key] = this.#shared(value);
      return shared;
    });
  }

  /** The same list for all; nobody changes a value that is held. */
  #sharedProfiles(profiles: string[]): string[] {
    return this.#profiles.get(JSON.stringify(profiles), () => profiles);
  }
}

/** The last values that were made, by what they were made of. */
class Remembered<Value> {
  #values = new Map<string, Value>();

  get(key: string, make: () => Value): Value {
    const known = this.#values.get(key);
    if (known !== undefined) return known;
    const made = make();
    if (this.#values.size >= mostRemembered) this.#values = new Map();
    this.#values.set(key, made);
    return made;
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function usualMetadata(fields: Fields): WorkloadEndpoint['metadata'] | undefined {
  const { name, namespace, uid, creationTimestamp, resourceVersion, labels, annotations } = fields;
  if (typeof name !== 'string' || !isResourceName(name)) return undefined;
  if (![uid, creationTimestamp, resourceVersion].every(isTextOrAbsent)) return undefined;
  const isUsual =
    isTextOrAbsent(namespace) &&
    (namespace === undefined || isResourceName(namespace)) &&
    isTextsOrAbsent(annotations) &&
    isTextsOrAbsent(labels) &&
    Object.entries(labels ?? {}).every(([key, value]) => isLabelKey(key) && isLabelValue(value));
  if (!isUsual) return undefined;
  return {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(labels === undefined ? {} : { labels }),
  };
}

function usualSpec(fields: Fields): WorkloadEndpoint['spec'] | undefined {
  const { orchestrator, node, endpoint, interfaceName, ipNetworks, profiles } = fields;
  // Ports are few, and left to the schema.
  if (fields['ports'] !== undefined) return undefined;
  const { workload, containerID, mac } = fields;
  if (![workload, containerID, mac].every(isTextOrAbsent)) return undefined;
  const isUsual =
    typeof orchestrator === 'string' &&
    typeof endpoint === 'string' &&
    typeof node === 'string' &&
    isResourceName(node) &&
    typeof interfaceName === 'string' &&
    /^[a-zA-Z0-9_.-]{1,15}$/.test(interfaceName);
  if (!isUsual) return undefined;
  const networks = networksOf(ipNetworks);
  if (networks === 'odd' || !isListOrAbsent(profiles)) return undefined;
  return {
    orchestrator,
    node,
    endpoint,
    ...(networks === undefined ? {} : { ipNetworks: networks }),
    ...(profiles === undefined ? {} : { profiles }),
    interfaceName,
  };
}

function networksOf(value: unknown): Cidr[] | undefined | 'odd' {
  if (!isListOrAbsent(value)) return 'odd';
  try {
    return value?.map(parseNet);
  } catch {
    return 'odd';
  }
}

function fieldsOf(value: unknown): Fields {
  return isFields(value) ? value : {};
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isTextOrAbsent(value: unknown): value is string | undefined {
  return value === undefined || typeof value === 'string';
}

function isTextsOrAbsent(value: unknown): value is Record<string, string> | undefined {
  if (value === undefined) return true;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((one) => typeof one === 'string');
}

function isListOrAbsent(value: unknown): value is string[] | undefined {
  if (value === undefined) return true;
  return Array.isArray(value) && value.every((one) => typeof one === 'string');
}
