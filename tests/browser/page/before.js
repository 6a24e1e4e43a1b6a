// What a browser may lack or have wrong, done to it before the client is loaded; the address says what:
//   skew=MS                       the clock is wrong by so much; `skew` can be set later, too
//   storage=none|broken|keyless   no IndexedDB, one that does not open, one that keeps no keys
//   locks=none                    no Web Locks

'use strict';

const asked = new URLSearchParams(location.search);

var skew = Number(asked.get('skew') ?? 0);
{
  const Real = Date;
  window.Date = class Date extends Real {
    constructor(...parts) {
      if (parts.length > 0) super(...parts);
      else super(Real.now() + skew);
    }

    static now() {
      return Real.now() + skew;
    }
  };
}

const storage = {
  none: () => Object.defineProperty(window, 'indexedDB', { value: undefined }),
  broken: () => {
    IDBFactory.prototype.open = () => {
      throw new DOMException('out of order', 'UnknownError');
    };
  },
  keyless: () => {
    const { put } = IDBObjectStore.prototype;
    IDBObjectStore.prototype.put = function (value, ...more) {
      if (value.key?.privateKey) throw new DOMException('no keys here', 'DataCloneError');
      return put.call(this, value, ...more);
    };
  },
};
storage[asked.get('storage')]?.();
if (asked.get('locks') === 'none') Object.defineProperty(navigator, 'locks', { value: undefined });
