/**
 * QR codes as SVG, by `uqr`.
 *
 * @packageDocumentation
 */
import { encode } from 'uqr';

/** How a code looks. */
export interface QrOptions {
  /** What a screen reader says. Default: "QR code". */
  label?: string;
  /** CSS colours. The default, black on white, is what every camera reads. */
  dark?: string;
  light?: string;
}

const escaped = (text: string) => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);

/** The QR code of `text` as SVG, without a size of its own; error correction M, with the quiet zone of four modules. */
export function qrSvg(text: string, { label = 'QR code', dark = '#000', light = '#fff' }: QrOptions = {}): string {
  const { data, size } = encode(text, { ecc: 'M', border: 4 });
  let path = '';
  data.forEach((row, y) => {
    for (let x = 0; x < size; x += 1) {
      const start = x;
      while (row[x]) x += 1;
      if (x > start) path += `M${start} ${y}h${x - start}v1h${start - x}z`;
    }
  });
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size} ${size}" role="img" aria-label="${escaped(label)}" shape-rendering="crispEdges">` +
    `<path fill="${escaped(light)}" d="M0 0h${size}v${size}H0z"/><path fill="${escaped(dark)}" d="${path}"/></svg>`
  );
}
