/** MAC addresses as text, such as `ee:ee:ee:ee:ee:ee`, and as the kernel's bytes. */

export function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

/** Returns an empty text for no bytes: a link of the third layer has no MAC address. */
export function macText(bytes: Buffer | undefined): string {
  return [...(bytes ?? [])].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}
