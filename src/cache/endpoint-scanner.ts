import { parseNet, type Cidr } from '../ip/cidr.ts';
import type { BriefEndpoint, NamedPort, Scope } from '../model/briefs.ts';
import { isInheritedLabel, isLabelKey, isLabelValue, isResourceName } from '../model/fields.ts';
import { endpointAnnotations } from '../model/kinds/workload-endpoint.ts';
import { JsonScanner } from './json-scanner.ts';
import { Remembered } from './remembered.ts';

/**
 * Reads endpoints of the usual form from the bytes of their JSON. There may be hundreds of thousands, and a brief has few
 * of their fields: to parse the whole would make dozens of texts and objects for each, and the garbage collection of
 * those takes as long as the parsing.
 */
export class EndpointScanner {
  readonly #scanner = new JsonScanner();
  readonly #labelSets = new SharedValues<Readonly<Record<string, string>>>(isSameRecord);
  readonly #profileLists = new SharedValues<readonly string[]>(isSameList);
  readonly #aliasLists = new Remembered<readonly string[]>(maxShared);
  readonly #scopes = new Remembered<Scope>(maxNames);
  readonly #isLegalKey = new Remembered<boolean>(maxNames);
  readonly #isLegalName = new Remembered<boolean>(maxNames);
  #bytes: Buffer = Buffer.alloc(0);
  #namespace: string | undefined;
  #labels: Readonly<Record<string, string>> = none.labels;
  #aliases: readonly string[] = [];
  #node = '';
  #nets: readonly Cidr[] = [];
  #profiles: readonly string[] = [];

  /** Returns the brief of an endpoint; `undefined` for a text of unusual form, valid or not. */
  scan(bytes: Buffer, start: number, end: number): BriefEndpoint | undefined {
    const scanner = this.#scanner;
    this.#bytes = bytes;
    this.#namespace = undefined;
    this.#labels = none.labels;
    this.#aliases = none.texts;
    this.#nets = none.nets;
    this.#profiles = none.texts;
    scanner.begin(bytes, start, end);
    this.#object(this.#readEndpoint, 0b1111);
    scanner.finish();
    if (scanner.isUnusual) return undefined;
    return {
      scope: this.#scopes.get(this.#namespace ?? '', scopeOf),
      node: this.#node,
      nets: this.#nets,
      prefixes: none.nets,
      labels: this.#labels,
      profiles: this.#profiles,
      ports: none.ports,
      aliases: this.#aliases,
    };
  }

  /**
   * Reads an object. `read` reads the value of a field that it knows, and returns the bit of the field, 0 for any other.
   * A field twice is unusual, as is the absence of a required one.
   */
  #object(read: (name: string) => number, required: number): void {
    const scanner = this.#scanner;
    let seen = 0;
    for (let more = scanner.enterObject(); more; more = scanner.nextField()) {
      const bit = read(scanner.word());
      if (bit === 0) scanner.skip();
      if ((seen & bit) !== 0) scanner.isUnusual = true;
      seen |= bit;
    }
    if ((seen & required) !== required) scanner.isUnusual = true;
  }

  readonly #readEndpoint = (name: string): number => {
    switch (name) {
      case 'kind':
        this.#expect('WorkloadEndpoint');
        return 1;
      case 'apiVersion':
        this.#expect('projectcalico.org/v3');
        return 2;
      case 'metadata':
        this.#object(this.#readMetadata, 1);
        return 4;
      case 'spec':
        this.#object(this.#readSpec, 0b1111);
        return 8;
      default:
        return 0;
    }
  };

  readonly #readMetadata = (name: string): number => {
    switch (name) {
      case 'name':
        this.#must(this.#scanner.text() && this.#isLastResourceName());
        return 1;
      case 'namespace':
        this.#namespace = this.#resourceName();
        return 2;
      case 'uid':
        this.#scanner.skipText();
        return 4;
      case 'creationTimestamp':
        this.#scanner.skipText();
        return 8;
      case 'resourceVersion':
        this.#scanner.skipText();
        return 16;
      case 'labels':
        this.#readLabels();
        return 32;
      case 'annotations':
        this.#readAnnotations();
        return 64;
      default:
        return 0;
    }
  };

  readonly #readSpec = (name: string): number => {
    switch (name) {
      case 'orchestrator':
        this.#scanner.skipText();
        return 1;
      case 'node':
        this.#node = this.#resourceName();
        return 2;
      case 'endpoint':
        this.#scanner.skipText();
        return 4;
      case 'interfaceName':
        this.#must(this.#scanner.text() && this.#isLastInterfaceName());
        return 8;
      case 'workload':
        this.#scanner.skipText();
        return 16;
      case 'containerID':
        this.#scanner.skipText();
        return 32;
      case 'mac':
        this.#scanner.skipText();
        return 64;
      case 'ipNetworks':
        this.#readNets();
        return 128;
      case 'profiles':
        this.#readProfiles();
        return 256;
      case 'ports':
      case 'allowSpoofedSourcePrefixes':
        // They are rare and left to the schema.
        this.#must(false);
        return 0;
      default:
        return 0;
    }
  };

  #readLabels(): void {
    const scanner = this.#scanner;
    const labels: Record<string, string> = {};
    let hash = 0;
    for (let more = scanner.enterObject(); more; more = scanner.nextField()) {
      const key = scanner.word();
      hash = Math.imul(hash, 31) + scanner.hash;
      const isLegal = this.#isLegalKey.get(key, isOwnLabelKey);
      this.#must(isLegal && !Object.hasOwn(labels, key) && scanner.text());
      if (scanner.isUnusual) return;
      const value = scanner.word();
      this.#must(isLabelValue(value));
      hash = Math.imul(hash, 31) + scanner.hash;
      labels[key] = value;
    }
    this.#labels = this.#labelSets.get(hash, labels);
  }

  #readAnnotations(): void {
    const scanner = this.#scanner;
    let hasAliases = false;
    for (let more = scanner.enterObject(); more; more = scanner.nextField()) {
      if (scanner.word() !== endpointAnnotations.aliases) {
        scanner.skipText();
        continue;
      }
      this.#must(scanner.text() && !hasAliases);
      this.#aliases = this.#aliasLists.get(scanner.word(), (listed) => listed.split(','));
      hasAliases = true;
    }
  }

  #readNets(): void {
    const scanner = this.#scanner;
    const nets: Cidr[] = [];
    for (let more = scanner.enterArray(); more; more = scanner.nextElement()) {
      if (!scanner.text()) return;
      try {
        nets.push(parseNet(scanner.unique()));
      } catch {
        scanner.isUnusual = true;
      }
    }
    // A copy: an array that has grown keeps room for sixteen more.
    this.#nets = nets.length > 1 ? [...new Set(nets)] : nets.slice();
  }

  #readProfiles(): void {
    const scanner = this.#scanner;
    const profiles: string[] = [];
    let hash = 0;
    for (let more = scanner.enterArray(); more; more = scanner.nextElement()) {
      if (!scanner.text()) return;
      profiles.push(scanner.word());
      hash = Math.imul(hash, 31) + scanner.hash;
    }
    this.#profiles = this.#profileLists.get(hash, profiles);
  }

  #resourceName(): string {
    if (!this.#scanner.text()) return '';
    const name = this.#scanner.word();
    this.#must(this.#isLegalName.get(name, isResourceName));
    return name;
  }

  #expect(text: string): void {
    this.#must(this.#scanner.text() && this.#scanner.word() === text);
  }

  #must(isSo: boolean): void {
    if (!isSo) this.#scanner.isUnusual = true;
  }

  /** As `isResourceName`, without making a text of it. */
  #isLastResourceName(): boolean {
    const { start, end } = this.#scanner;
    let isAfterAlphanumeric = false;
    let before = dot;
    for (let at = start; at < end; at++) {
      const byte = this.#bytes[at] ?? 0;
      isAfterAlphanumeric = isLowerCase(byte) || isDigit(byte);
      if (byte === dot ? before === dot || before === dash : byte === dash && before === dot) {
        return false;
      }
      if (!isAfterAlphanumeric && byte !== dot && byte !== dash) return false;
      before = byte;
    }
    return isAfterAlphanumeric && end - start <= 253;
  }

  /** As the schema has it. */
  #isLastInterfaceName(): boolean {
    const { start, end } = this.#scanner;
    for (let at = start; at < end; at++) {
      const byte = this.#bytes[at] ?? 0;
      const isLetter = isLowerCase(byte | 0x20) && byte >= 0x41;
      if (!isLetter && !isDigit(byte) && byte !== dot && byte !== dash && byte !== underscore) {
        return false;
      }
    }
    return end > start && end - start <= 15;
  }
}

/** Of nodes and namespaces, and of keys of labels. */
const maxNames = 8192;

function isOwnLabelKey(key: string): boolean {
  return isLabelKey(key) && !isInheritedLabel(key);
}

/** Mostly an endpoint has none of something. */
const none: Readonly<{
  labels: Readonly<Record<string, string>>;
  texts: readonly string[];
  nets: readonly Cidr[];
  ports: readonly NamedPort[];
}> = { labels: {}, texts: [], nets: [], ports: [] };

function scopeOf(namespace: string): Scope {
  return { namespace: namespace === '' ? undefined : namespace };
}

/** A power of two. Equal values are near each other, and most are unique. */
const maxShared = 512;

/** Equal values as one object, as long as they are not displaced by others. */
class SharedValues<Value> {
  readonly #isSame: (a: Value, b: Value) => boolean;
  /** By hash. */
  readonly #values: (Value | undefined)[] = Array.from({ length: maxShared });

  constructor(isSame: (a: Value, b: Value) => boolean) {
    this.#isSame = isSame;
  }

  get(hash: number, value: Value): Value {
    const place = hash & (maxShared - 1);
    const known = this.#values[place];
    if (known !== undefined && this.#isSame(known, value)) return known;
    this.#values[place] = value;
    return value;
  }
}

function isSameRecord(
  a: Readonly<Record<string, string>>,
  b: Readonly<Record<string, string>>,
): boolean {
  let difference = 0;
  for (const key in a) {
    difference++;
    if (a[key] !== b[key]) return false;
  }
  for (const _ in b) difference--;
  return difference === 0;
}

function isSameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((one, at) => one === b[at]);
}

const [dash, dot, underscore] = [0x2d, 0x2e, 0x5f];

function isLowerCase(byte: number): boolean {
  return byte >= 0x61 && byte <= 0x7a;
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}
