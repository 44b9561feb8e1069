import type { EncodedKeyValue, KeyValue } from '../datastore/datastore.ts';
import type { Cidr } from '../ip/cidr.ts';
import { briefEndpoint, type BriefEndpoint, type NamedPort, type Scope } from '../model/briefs.ts';
import {
  endpointAnnotations,
  orchestrator,
  workloadEndpointType,
  type WorkloadEndpoint,
} from '../model/kinds/workload-endpoint.ts';
import { EndpointScanner } from './endpoint-scanner.ts';
import { Remembered } from './remembered.ts';
import { keyTextOf, textOf, type Written } from './tables.ts';

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
  readonly #scanner = new EndpointScanner();
  readonly #labels = new Remembered<Labels>(maxSets);
  readonly #scopes = new Remembered<Scope>(maxSets);
  readonly #profiles = new Remembered<readonly string[]>(maxSets);
  readonly #ports = new Remembered<readonly NamedPort[]>(maxSets);
  readonly #aliases = new Remembered<readonly string[]>(maxSets);

  /** Returns the brief of a stored value; throws `datastore/corrupt`. */
  decode(written: Written): BriefEndpoint {
    const encoded = 'bytes' in written ? written : encodedOf(written);
    return (
      this.decodeUsual(encoded) ??
      this.of(workloadEndpointType.decode(keyTextOf(written), textOf(written)))
    );
  }

  /** Returns the brief of a text of the usual form; `undefined` for any other, valid or not. */
  decodeUsual({
    bytes,
    start,
    end,
  }: Pick<EncodedKeyValue, 'bytes' | 'start' | 'end'>): BriefEndpoint | undefined {
    return this.#scanner.scan(bytes, start, end);
  }

  /** Returns the brief of an endpoint. */
  of(endpoint: WorkloadEndpoint): BriefEndpoint {
    return this.#shared(briefEndpoint(endpoint));
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

function encodedOf({ value }: KeyValue): Pick<EncodedKeyValue, 'bytes' | 'start' | 'end'> {
  const bytes = Buffer.from(value);
  return { bytes, start: 0, end: bytes.length };
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
