"""Translate the PTX that NVRTC produced into C++ that runs on emu_rt.hpp.  Unknown instructions raise."""
import re, struct

PARAM = r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(?:\.ptr\s+(?:\.(?:global|shared|const|local)\s+)?(?:\.align\s+\d+\s+)?)?([A-Za-z_$][\w$]*)(?:\[(\d+)\])?"
class Unsupported(Exception): pass
CT = {"b8":"u8","u8":"u8","s8":"s8","b16":"u16","u16":"u16","s16":"s16","b32":"u32","u32":"u32","s32":"s32","f32":"float",
      "b64":"u64","u64":"u64","s64":"s64","f64":"double","pred":"bool","f16":"u16"}
SZ = {"b8":1,"u8":1,"s8":1,"b16":2,"u16":2,"s16":2,"f16":2,"b32":4,"u32":4,"s32":4,"f32":4,"b64":8,"u64":8,"s64":8,"f64":8}
REGCT = {"pred":"bool","b8":"u8","u8":"u8","s8":"u8","b16":"u16","u16":"u16","s16":"u16","f16":"u16","b32":"u32","u32":"u32","s32":"u32","f32":"u32","b64":"u64","u64":"u64","s64":"u64","f64":"u64"}
UNS = {1:"u8",2:"u16",4:"u32",8:"u64"}

class Module:
    def __init__(self, ptx, filename="kern.cu"):
        self.filename = filename; self.kernels = {}; self.shared = {}; self.dyn = None; self.consts = {}; self.files = {}
        self.soff = 0; self.svars = []
        self.parse(ptx)

    # ------------------------------------------------------------------ parsing
    def parse(self, ptx):
        ptx = re.sub(r"/\*.*?\*/", "", ptx, flags=re.S)
        lines = ptx.split("\n")
        i = 0
        while i < len(lines):
            l = lines[i].split("//")[0].strip()
            if not l or l.startswith((".version",".target",".address_size",".file",".section")):
                m = re.match(r'\.file\s+(\d+)\s+"([^"]*)"', l)
                if m: self.files[int(m.group(1))] = m.group(2)
                if l.startswith(".section"):
                    while i < len(lines) and not lines[i].strip().startswith("}"): i += 1
                i += 1; continue
            m = re.match(r"(?:\.extern|\.visible|\.weak|\.common)?\s*\.shared\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(\[\d*\])?\s*;", l)
            if m: self.add_shared(m); i += 1; continue
            m = re.match(r"(?:\.visible|\.weak)?\s*\.(global|const)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d*)\])?\s*(?:=\s*(\{.*\}|[^;]+))?;", l)
            if m:
                sp, al, ty, nm, n, init = m.groups()
                self.consts[nm] = (sp, ty, int(n) if n else 1, init); i += 1; continue
            m = re.match(r"(?:\.visible|\.weak)?\s*\.entry\s+([\w$]+)\s*\(?", l)
            if m:
                name = m.group(1); hdr = l[m.end():]
                while "{" not in hdr:
                    i += 1; hdr += " " + lines[i].split("//")[0].strip()
                body = []; depth = hdr.count("{") - hdr.count("}"); i += 1
                while depth > 0:
                    t = lines[i].split("//")[0].rstrip(); depth += t.count("{") - t.count("}")
                    if depth > 0: body.append((i + 1, t.strip()))
                    i += 1
                self.kernels[name] = (hdr, body); continue
            if l.startswith((".func", ".visible .func", ".weak .func", ".extern .func")): raise Unsupported("device function call (not inlined): " + l)
            raise Unsupported("module directive: " + l)

    def add_shared(self, m):
        al, ty, nm, n = m.groups(); al = int(al or SZ[ty])
        if n == "[]": self.dyn = (nm, max(al, 16)); return
        size = SZ[ty] * (int(n[1:-1]) if n else 1)
        self.soff = (self.soff + al - 1) // al * al
        self.shared[nm] = self.soff; self.svars.append((self.soff, size, nm)); self.soff += size + 64      # 64-byte red zone

    # ------------------------------------------------------------------ code generation
    def cpp(self):
        out = ['#define EMU_MAIN', '#include "emu_rt.hpp"', "using namespace emu;", HELPERS]
        kern = []
        for name, (hdr, body) in self.kernels.items(): kern.append(self.kernel(name, hdr, body))
        self.soff = (self.soff + 15) // 16 * 16
        for nm, (sp, ty, n, init) in self.consts.items():
            vals = "{0}"
            if init:
                v = init.strip("{} ").split(",")
                vals = "{" + ",".join(re.sub(r"^0[fFdD]", "0x", x.strip()) for x in v) + "}"
            out.append(f"alignas(16) static {REGCT[ty]} G_{san(nm)}[{n}] = {vals};")
        if self.dyn: out.append(f"#define SH_{san(self.dyn[0])} {self.soff}u")
        for nm, off in self.shared.items(): out.append(f"#define SH_{san(nm)} {off}u")
        out += kern
        out.append(f'static const u64 SMEM_STATIC = {self.soff if (self.dyn or self.svars) else 0};')
        out.append("static const u64 SVARS[][2] = {" + ",".join("{%d,%d}" % (o, s) for o, s, _ in self.svars) + "{0,0}};" if not self.svars else
                   "static const u64 SVARS[][2] = {" + ",".join("{%d,%d}" % (o, s) for o, s, _ in self.svars) + "};")
        out.append("static void reg_globals(Runtime& r) {" + "".join(f'r.allocs.push_back({{(u64)G_{san(n)}, sizeof G_{san(n)}, nullptr, nullptr, {"true" if c[0]=="const" else "false"}, "{n}"}});' for n, c in self.consts.items()) + "}")
        out.append("struct KEnt { const char* n; void (*f)(void*); }; static KEnt KERNELS[] = {" + ",".join(f'{{"{n}", k_{san(n)}}}' for n in self.kernels) + "};")
        out.append(DRIVER)
        return "\n".join(out)

    def parameters(self, name):
        return [SZ[m.group(2)] * int(m.group(4) or 1) for m in re.finditer(PARAM, self.kernels[name][0])]
    def kernel(self, name, hdr, body):
        params = []; off = 0
        for m in re.finditer(PARAM, hdr):
            al, ty, nm, n = m.groups(); sz = SZ[ty] * int(n or 1); al = int(al or SZ[ty])
            off = (off + al - 1) // al * al; params.append((nm, off, sz)); off += sz
        self.params = {p[0]: p[1] for p in params}
        decl, code = [], []
        srcline = 0; self.uid = 0; scope = [""]; self.regs = {}
        for ln, t in body:
            for st in split_stmts(t):
                st = st.strip()
                if not st: continue
                if st == "{": self.uid += 1; scope.append(f"s{self.uid}_"); code.append("{"); continue
                if st == "}": scope.pop(); code.append("}"); continue
                m = re.match(r"\.loc\s+(\d+)\s+(\d+)", st)
                if m: srcline = int(m.group(2)) if m.group(1) == "1" or not self.files.get(int(m.group(1)), "").startswith("/") else srcline; continue
                if st.startswith((".pragma", ".branchtargets", ".callprototype")): continue
                m = re.match(r"\.reg\s+\.(\w+)\s+(.*)", st)
                if m:
                    ty, rest = m.groups()
                    for r in rest.split(","):
                        r = r.strip(); mm = re.match(r"(%?[\w$]+)<(\d+)>", r)
                        names = [f"{mm.group(1)}{k}" for k in range(int(mm.group(2)))] if mm else [r]
                        (decl if len(scope) == 1 else code).append(f"{REGCT[ty]} " + ", ".join(f"{reg(n)} = 0" for n in names) + ";")
                    continue
                m = re.match(r"\.local\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?", st)
                if m:
                    decl.append(f"alignas(16) u8 L_{san(m.group(3))}[{SZ[m.group(2)]*int(m.group(4) or 1)}]; memset(L_{san(m.group(3))}, 0xCD, sizeof L_{san(m.group(3))});"); continue
                m = re.match(r"(?:\.shared)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(\[\d*\])?\s*$", st)
                if m: self.add_shared(m); continue
                m = re.match(r"([\w$]+):$", st)
                if m: code.append(f"{lab(m.group(1))}:;"); continue
                if st.startswith("."): raise Unsupported("directive: " + st)
                code.append(self.instr(st, srcline, ln))
        return (f"static void k_{san(name)}(void* pp_) {{ const u8* pp = (const u8*)pp_; (void)pp;\n  " + "\n  ".join(decl) + "\n  " + "\n  ".join(code) + "\n}")

    def op(self, o, ct):
        """operand as a value of C type ct"""
        o = o.strip()
        neg = ""
        if o.startswith("!"): return f"(!{reg(o[1:])})"
        if o.startswith("%"):
            sp = special(o)
            if sp: return f"(({ct}){sp})"
            if ct == "float": return f"asf({reg(o)})"
            if ct == "double": return f"asd({reg(o)})"
            return f"(({ct}){reg(o)})"
        if re.match(r"0[fF][0-9a-fA-F]{8}$", o): return f"asf(0x{o[2:]}u)" if ct == "float" else f"0x{o[2:]}u"
        if re.match(r"0[dD][0-9a-fA-F]{16}$", o): return f"asd(0x{o[2:]}ull)" if ct == "double" else f"0x{o[2:]}ull"
        if re.match(r"-?(0[xX][0-9a-fA-F]+|\d+)U?$", o): return f"(({ct})({o.rstrip('U')}ll))" if not (o.startswith("-9223372036854775808")) else f"(({ct})INT64_MIN)"
        if o in self.shared or (self.dyn and o == self.dyn[0]): return f"(({ct})SH_{san(o)})"
        if o in self.consts: return f"(({ct})(u64)G_{san(o)})"
        if re.match(r"__local_depot", o): return f"(({ct})(u64)L_{san(o)})"
        if re.match(r"[A-Za-z_][\w$]*$", o) and not o.startswith("%"):
            return f"(({ct}){reg(o)})" if ct not in ("float","double") else f"as{'f' if ct=='float' else 'd'}({reg(o)})"
        raise Unsupported("operand " + o)

    def addr(self, a):
        a = a.strip()[1:-1].strip(); m = re.match(r"(.+?)\s*\+\s*(-?\w+)$", a)
        base, off = (m.group(1), m.group(2)) if m else (a, "0")
        if base.strip().isdigit(): b = f"((u64){base})"
        else: b = self.op(base, "u64")
        return f"({b} + ({off}))" if off != "0" else b

    def setr(self, d, expr, ty):
        d = d.strip()
        if d == "_": return f"(void)({expr});"
        if ty == "f32": return f"{reg(d)} = fbits({expr});"
        if ty == "f64": return f"{reg(d)} = dbits({expr});"
        if ty == "pred": return f"{reg(d)} = {expr};"
        # register may be wider than the type: sign- or zero-extend as PTX does
        return f"{reg(d)} = ({CT[ty]})({expr});"

    def instr(self, st, src, ln):
        line = f"{ln * 100000 + src}"; self.cur = st
        pre = ""
        m = re.match(r"@(!?)(%?[\w$]+)\s+(.*)", st)
        if m: pre = f"if ({'!' if m.group(1) else ''}{reg(m.group(2))}) "; st = m.group(3)
        m = re.match(r"(\S+)\s*(.*)$", st, re.S); mn, args = m.group(1), m.group(2)
        A = split_ops(args); p = mn.split("."); o = p[0]; ty = p[-1]
        r = self.gen(o, p, ty, A, line, st)
        return pre + "{ " + r + " }" if not r.startswith("goto") and r != "return;" else pre + r

    def gen(self, o, p, ty, A, line, st):
        op, setr = self.op, self.setr; ct = CT.get(ty)
        if o == "bra": return f"goto {lab(A[0])};"
        if o in ("ret", "exit"): return "return;"
        if o == "trap": return f'R->err("TRAP", {line}, "trap"); R->cur->state = W_DONE; R->live--; to_sched();'
        if o == "mov":
            if A[0].startswith("{"):
                ds = split_ops(A[0][1:-1]); n = SZ[ty] // len(ds) * 8; v = op(A[1], UNS[SZ[ty]])
                return f"u64 v_ = {v}; " + " ".join(f"{reg(d)} = ({UNS[n//8]})(v_ >> {i*n});" for i, d in enumerate(ds) if d.strip() != "_")
            if A[1].startswith("{"):
                ss = split_ops(A[1][1:-1]); n = SZ[ty] // len(ss) * 8
                return f"{reg(A[0])} = " + " | ".join(f"(({UNS[SZ[ty]]}){op(s, UNS[n//8])} << {i*n})" for i, s in enumerate(ss)) + ";"
            if ty == "pred": return f"{reg(A[0])} = {reg(A[1]) if not A[1].strip().lstrip('-').isdigit() else A[1]};"
            u = UNS[SZ[ty]]
            return f"{reg(A[0])} = {op(A[1], u)};"
        if o == "ld":
            sp = next((x for x in p[1:] if x in ("param","global","shared","local","const")), "generic")
            n = 4 if "v4" in p else 2 if "v2" in p else 1; sz = SZ[ty]
            if sp == "param":
                mm = re.match(r"\[([\w$]+)(?:\+(\d+))?\]", A[1].strip()); off = self.params[mm.group(1)] + int(mm.group(2) or 0)
                ptr = f"(pp + {off})"
            else: ptr = self.mem(sp, A[1], sz * n, "LDA" if any(x in p for x in ("relaxed","acquire","volatile")) else "LD", line)
            ds = split_ops(A[0][1:-1]) if n > 1 else [A[0]]
            return f"const u8* q_ = {ptr}; " + " ".join(f"{{ {CT[ty]} v_; memcpy(&v_, q_ + {i*sz}, {sz}); {self.setraw(d, ty)} }}" for i, d in enumerate(ds) if d.strip() != "_")
        if o == "st":
            sp = next((x for x in p[1:] if x in ("global","shared","local")), "generic")
            n = 4 if "v4" in p else 2 if "v2" in p else 1; sz = SZ[ty]; ss = split_ops(A[1][1:-1]) if n > 1 else [A[1]]
            return " ".join(f"{UNS[sz]} v{i}_ = {op(s, UNS[sz])};" for i, s in enumerate(ss)) + f" u8* q_ = {self.mem(sp, A[0], sz*n, 'STA' if any(x in p for x in ('relaxed','release','volatile')) else 'ST', line)}; " + " ".join(f"memcpy(q_ + {i*sz}, &v{i}_, {sz});" for i in range(n))
        if o in ("atom", "red"):
            sp = "global" if "global" in p else "shared" if "shared" in p or "shared::cta" in p else "generic"
            kind = next(x for x in p[1:] if x in ("add","min","max","exch","cas","and","or","xor","inc","dec")); sz = SZ[ty]
            ai = 0 if o == "red" else 1
            ptr = self.mem(sp, A[ai], sz, "AT", line); b = op(A[ai+1], ct); c = op(A[ai+2], ct) if kind == "cas" else ""
            new = {"add":"old_ + b_","min":"std::min(old_, b_)","max":"std::max(old_, b_)","exch":"b_","and":"old_ & b_","or":"old_ | b_","xor":"old_ ^ b_","inc":"old_ >= b_ ? 0 : old_ + 1","dec":"(old_ == 0 || old_ > b_) ? b_ : old_ - 1","cas":f"old_ == b_ ? {c} : old_"}[kind]
            return f"{ct} b_ = {b}; u8* q_ = {ptr}; {ct} old_; memcpy(&old_, q_, {sz}); {ct} n_ = {new}; memcpy(q_, &n_, {sz});" + ("" if o == "red" else " " + setr(A[0], "old_", ty))
        if o == "cvta":
            if "shared" in p: return (f"{reg(A[0])} = {op(A[1],'u64')} - 0x7000000000000000ull;" if "to" in p else f"{reg(A[0])} = {op(A[1],'u64')} + 0x7000000000000000ull;")
            return f"{reg(A[0])} = {op(A[1],'u64')};"
        if o == "isspacep": return f"{reg(A[0])} = ({op(A[1],'u64')} >= 0x7000000000000000ull) == {'true' if 'shared' in p else 'false'};"
        if o in ("bar", "barrier"):
            if "warp" in p: return f"warp_op(K_SYNCWARP, 0, 0, 0, {op(A[0],'u32')}, {line});"
            if "sync" in p: return f"barrier_wait({op(A[0],'int')}, {op(A[1],'int') if len(A) > 1 else 0}, {line});"
        if o in ("membar", "fence"): return ";"
        if o == "shfl":
            k = {"idx":"K_SHFL_IDX","up":"K_SHFL_UP","down":"K_SHFL_DOWN","bfly":"K_SHFL_BFLY"}[p[2]]
            d, _, pd = A[0].partition("|")
            return f"int pr_; u32 v_ = (u32)warp_op({k}, {op(A[1],'u32')}, {op(A[2],'u32')}, {op(A[3],'u32')}, {op(A[4],'u32')}, {line}, &pr_); {reg(d)} = v_;" + (f" {reg(pd)} = pr_;" if pd else "")
        if o == "vote":
            k = {"ballot":"K_BALLOT","any":"K_ANY","all":"K_ALL"}[p[2]]
            return f"{reg(A[0])} = warp_op({k}, {op(A[1],'bool')}, 0, 0, {op(A[2],'u32')}, {line});"
        if o == "redux":
            k = {"add":"K_REDUX_ADD","and":"K_REDUX_AND","or":"K_REDUX_OR","min":"K_REDUX_MIN" if ty=="s32" else "K_REDUX_UMIN","max":"K_REDUX_MAX" if ty=="s32" else "K_REDUX_UMAX"}[p[2]]
            return f"{reg(A[0])} = (u32)warp_op({k}, {op(A[1],'u32')}, 0, 0, {op(A[2],'u32')}, {line});"
        if o == "match": return f"{reg(A[0].partition('|')[0])} = (u32)warp_op(K_MATCH_ANY, {op(A[1],'u64')}, 0, 0, {op(A[2],'u32')}, {line});"
        if o == "activemask": return f"{reg(A[0])} = live_mask(R->cur->warp);"
        if o == "setp":
            cmp_ = p[1]; bo = next((x for x in p[2:-1] if x in ("and","or","xor")), None)
            e = self.cmp(cmp_, ty, A[1], A[2], p)
            if bo: e = f"(bool)({e} {dict(**{'and':'&','or':'|','xor':'^'})[bo]} {op(A[3],'bool')})"
            d, _, d2 = A[0].partition("|")
            return f"bool c_ = {e}; {reg(d)} = c_;" + (f" {reg(d2)} = !c_;" if d2 else "")
        if o == "set":
            e = self.cmp(p[1], ty, A[1], A[2], p); dt = p[-2]
            return setr(A[0], f"({e}) ? " + ("1.0f : 0.0f" if dt == "f32" else "0xffffffffu : 0u"), dt)
        if o == "selp": return f"{reg(A[0])} = {op(A[3],'bool')} ? {op(A[1],UNS[SZ[ty]])} : {op(A[2],UNS[SZ[ty]])};"
        if o == "cvt": return self.cvt(p, A)
        if ty == "pred":
            if o == "not": return f"{reg(A[0])} = !{op(A[1],'bool')};"
            return f"{reg(A[0])} = {op(A[1],'bool')} {dict(**{'and':'&','or':'|','xor':'^'})[o]} {op(A[2],'bool')};"
        u = UNS.get(SZ.get(ty, 4))
        if o in ("and", "or", "xor"): return setr(A[0], f"{op(A[1],u)} {dict(**{'and':'&','or':'|','xor':'^'})[o]} {op(A[2],u)}", ty)
        if o == "not": return setr(A[0], f"~{op(A[1],u)}", ty)
        if o == "cnot": return setr(A[0], f"{op(A[1],u)} == 0", ty)
        if o == "lop3":
            lut = int(A[4], 0)
            t = " | ".join("(" + " & ".join(("" if (k >> (2 - j)) & 1 else "~") + f"x{j}_" for j in range(3)) + ")" for k in range(8) if lut >> k & 1) or "0"
            return f"u32 x0_ = {op(A[1],'u32')}, x1_ = {op(A[2],'u32')}, x2_ = {op(A[3],'u32')}; {reg(A[0])} = {t};"
        if o == "shl": return setr(A[0], f"shl_<{u}>({op(A[1],u)}, {op(A[2],'u32')})", ty)
        if o == "shr": return setr(A[0], f"shr_<{ct}>({op(A[1],ct)}, {op(A[2],'u32')})", ty)
        if o == "shf": return f"{reg(A[0])} = shf_({op(A[1],'u32')}, {op(A[2],'u32')}, {op(A[3],'u32')}, {str('l' in p).lower()}, {str('wrap' in p).lower()});"
        if o == "popc": return f"{reg(A[0])} = __builtin_popcountll({op(A[1],u)});"
        if o == "clz": return f"{{ {u} x_ = {op(A[1],u)}; {reg(A[0])} = x_ ? __builtin_clz{'ll' if SZ[ty]==8 else ''}(x_) : {SZ[ty]*8}; }}"
        if o == "brev": return f"{reg(A[0])} = brev_({op(A[1],u)}, {SZ[ty]*8});"
        if o == "bfind": return f"{{ {u} x_ = {op(A[1],u)}; {reg(A[0])} = x_ ? {SZ[ty]*8-1} - __builtin_clz{'ll' if SZ[ty]==8 else ''}(x_) : 0xffffffffu; }}" if ty[0] == "u" or ty[0]=="b" else self.uns(st)
        if o == "bfe" and ty[0] == "u": return f"{{ {u} a_ = {op(A[1],u)}; u32 p_ = {op(A[2],'u32')} & 255, l_ = {op(A[3],'u32')} & 255; {reg(A[0])} = l_ == 0 || p_ >= {SZ[ty]*8} ? 0 : (a_ >> p_) & (l_ >= {SZ[ty]*8} ? ~({u})0 : ((({u})1 << l_) - 1)); }}"
        if o == "bfi": return f"{{ {u} a_ = {op(A[1],u)}, b_ = {op(A[2],u)}; u32 p_ = {op(A[3],'u32')} & 255, l_ = {op(A[4],'u32')} & 255; {u} m_ = p_ >= {SZ[ty]*8} || !l_ ? 0 : ((l_ >= {SZ[ty]*8} ? ~({u})0 : ((({u})1 << l_) - 1)) << p_); {reg(A[0])} = (b_ & ~m_) | ((p_ >= {SZ[ty]*8} ? 0 : a_ << p_) & m_); }}"
        if o == "prmt" and len(p) == 2: return f"{reg(A[0])} = prmt_({op(A[1],'u32')}, {op(A[2],'u32')}, {op(A[3],'u32')});"
        f = ty in ("f32", "f64"); ftz = "ftz" in p; W = (lambda e: f"ftz({e})") if ftz else (lambda e: e)
        S = "f" if ty == "f32" else ""
        if f:
            a = [W(op(x, ct)) for x in A[1:]]
            sat = (lambda e: f"sat_({e})") if "sat" in p else (lambda e: e)
            rm = next((x for x in ("rz","rm","rp") if x in p), None)
            if rm:
                if o not in ("add","sub","mul","fma","div"): self.uns(st)
                return setr(A[0], sat(W(f"rnd_{o}<{ct}>(FE_{dict(rz='TOWARDZERO', rm='DOWNWARD', rp='UPWARD')[rm]}, {', '.join(a)})")), ty)
            if o == "add": return setr(A[0], sat(W(f"{a[0]} + {a[1]}")), ty)
            if o == "sub": return setr(A[0], sat(W(f"{a[0]} - {a[1]}")), ty)
            if o == "mul": return setr(A[0], sat(W(f"{a[0]} * {a[1]}")), ty)
            if o in ("fma", "mad"): return setr(A[0], sat(W(f"__builtin_fma{S}({a[0]}, {a[1]}, {a[2]})")), ty)
            if o == "div": return setr(A[0], W(f"{a[0]} / {a[1]}"), ty)
            if o == "neg": return setr(A[0], f"-{a[0]}", ty)
            if o == "abs": return setr(A[0], f"__builtin_fabs{S}({a[0]})", ty)
            if o == "min": return setr(A[0], f"__builtin_fmin{S}({a[0]}, {a[1]})", ty)
            if o == "max": return setr(A[0], f"__builtin_fmax{S}({a[0]}, {a[1]})", ty)
            if o == "sqrt": return setr(A[0], f"__builtin_sqrt{S}({a[0]})", ty)
            if o == "rsqrt": return setr(A[0], f"1.0{S} / __builtin_sqrt{S}({a[0]})", ty)
            if o == "rcp": return setr(A[0], f"1.0{S} / {a[0]}", ty)
            if o == "ex2": return setr(A[0], f"exp2{S}({a[0]})", ty)
            if o == "lg2": return setr(A[0], f"log2{S}({a[0]})", ty)
            if o == "sin": return setr(A[0], f"sinf({a[0]})", ty)
            if o == "cos": return setr(A[0], f"cosf({a[0]})", ty)
            if o == "tanh": return setr(A[0], f"tanhf({a[0]})", ty)
            if o == "copysign": return setr(A[0], f"__builtin_copysign{S}({a[1]}, {a[0]})", ty)
            if o == "testp": pass
            self.uns(st)
        if ct is None: self.uns(st)
        a = [op(x, ct) for x in A[1:]]; w = {"s16":"s32","u16":"u32","s32":"s64","u32":"u64"}.get(ty)
        au = [op(x, UNS[SZ[ty]]) for x in A[1:]]                               # wrap-around arithmetic in unsigned
        if o == "add" : return setr(A[0], f"{au[0]} + {au[1]}", ty)
        if o == "sub" : return setr(A[0], f"{au[0]} - {au[1]}", ty)
        if o in ("mul", "mad"):
            mode = next((x for x in p if x in ("lo","hi","wide","24")), "lo")
            if mode == "lo": e = f"{au[0]} * {au[1]}"; return setr(A[0], e + (f" + {au[2]}" if o == "mad" else ""), ty)
            if mode == "wide":
                e = f"({w}){a[0]} * ({w}){a[1]}"
                if o == "mad": e = f"({w})((u64)({e}) + {op(A[3], 'u64' if w in ('s64','u64') else 'u32')})"
                return f"{reg(A[0])} = ({w})({e});"
            if mode == "hi":
                W2 = {"s16":"s32","u16":"u32","s32":"s64","u32":"u64","s64":"__int128","u64":"unsigned __int128"}[ty]; n = SZ[ty] * 8
                e = f"((({W2}){a[0]} * ({W2}){a[1]}) >> {n})"
                return setr(A[0], e + (f" + {a[2]}" if o == "mad" else ""), ty)
        if o == "div": return setr(A[0], f"{a[1]} == 0 ? ({ct})-1 : ({ct})({a[0]} / {a[1]})", ty)
        if o == "rem": return setr(A[0], f"{a[1]} == 0 ? {a[0]} : ({ct})({a[0]} % {a[1]})", ty)
        if o == "min": return setr(A[0], f"std::min<{ct}>({a[0]}, {a[1]})", ty)
        if o == "max": return setr(A[0], f"std::max<{ct}>({a[0]}, {a[1]})", ty)
        if o == "neg": return setr(A[0], f"-{au[0]}", ty)
        if o == "abs": return setr(A[0], f"{a[0]} < 0 ? -{a[0]} : {a[0]}", ty)
        if o == "sad": return setr(A[0], f"({a[0]} < {a[1]} ? {a[1]} - {a[0]} : {a[0]} - {a[1]}) + {a[2]}", ty)
        self.uns(st)

    def uns(self, st): raise Unsupported("instruction: " + st)
    def setraw(self, d, ty):
        d = d.strip()
        if ty == "f32": return f"{reg(d)} = fbits(v_);"
        if ty == "f64": return f"{reg(d)} = dbits(v_);"
        return f"{reg(d)} = v_;"
    def mem(self, sp, a, size, op_, line):
        ad = self.addr(a)
        if sp in ("global", "const"): return f"acc_global({ad}, {size}, {op_}, {line})"
        if sp == "shared": return f"acc_shared((u32)({ad}), {size}, {op_}, {line})"
        if sp == "local": return f"((u8*)({ad}))"
        return f"acc_generic({ad}, {size}, {op_}, {line})"
    def cmp(self, c, ty, x, y, p):
        op = self.op
        if ty in ("f32", "f64"):
            ct = CT[ty]; a, b = op(x, ct), op(y, ct)
            if "ftz" in p: a, b = f"ftz({a})", f"ftz({b})"
            basic = {"eq":"==","ne":"!=","lt":"<","le":"<=","gt":">","ge":">="}
            if c == "ne": return f"(({a} < {b}) || ({a} > {b}))"
            if c in basic: return f"({a} {basic[c]} {b})"
            if c == "num": return f"(!__builtin_isunordered({a},{b}))"
            if c == "nan": return f"__builtin_isunordered({a},{b})"
            if c.endswith("u") and c[:-1] in basic: return f"(__builtin_isunordered({a},{b}) || ({a} {basic[c[:-1]]} {b}))"
            self.uns(self.cur)
        s = {"eq":"==","ne":"!=","lt":"<","le":"<=","gt":">","ge":">=","lo":"<","ls":"<=","hi":">","hs":">="}[c]
        ct = CT[ty]
        return f"({op(x, ct)} {s} {op(y, ct)})"
    def cvt(self, p, A):
        st, dt = p[-1], p[-2]; m = p[1:-2]; src = A[1]
        fs = st in ("f32","f64","f16"); fd = dt in ("f32","f64","f16")
        if st == "f16": x = f"h2f({self.op(src,'u16')})"
        else: x = self.op(src, CT[st])
        if fs and "ftz" in m: x = f"ftz({x})"
        if fs and fd:
            if dt == "f16": return f"{reg(A[0])} = f2h({x});"
            if "rni" in m or "rn" in m and False: x = f"nearbyint({x})"
            if "rzi" in m: x = f"trunc({x})"
            if "rmi" in m: x = f"floor({x})"
            if "rpi" in m: x = f"ceil({x})"
            return self.setr(A[0], f"({CT[dt]})({x})", dt)
        if fs:                                                                  # float -> int, saturating
            r = {"rni":"nearbyint","rzi":"trunc","rmi":"floor","rpi":"ceil"}[next(k for k in m if k in ("rni","rzi","rmi","rpi"))]
            return self.setr(A[0], f"f2i<{CT[dt]}>({r}((double){x}))", dt)
        if fd:
            if dt == "f16": return f"{reg(A[0])} = f2h((float){x});"
            return self.setr(A[0], f"({CT[dt]})({x})", dt)
        if "sat" in m: self.uns(self.cur)
        return self.setr(A[0], f"({CT[dt]})({x})", dt)

def san(n): return re.sub(r"\W", "_", n)
def reg(n): return "r_" + san(n.strip().lstrip("%"))
def lab(n): return "L" + san(n.strip().lstrip("$"))
def special(o):
    m = re.match(r"%(tid|ntid|ctaid|nctaid)\.([xyz])$", o)
    if m: return {"tid":"R->cur->tidx","ntid":"R->block","ctaid":"R->bid","nctaid":"R->grid"}[m.group(1)] + "." + m.group(2)
    return {"%laneid":"R->cur->lane","%warpid":"R->cur->warp","WARP_SZ":"32","%lanemask_lt":"((1u << R->cur->lane) - 1)","%lanemask_le":"((2u << R->cur->lane) - 1)","%lanemask_eq":"(1u << R->cur->lane)","%lanemask_gt":"(~((2u << R->cur->lane) - 1))","%lanemask_ge":"(~((1u << R->cur->lane) - 1))","%clock":"0","%clock64":"0"}.get(o)
def split_ops(s):
    out, d, c = [], 0, ""
    for ch in s:
        if ch in "{[(": d += 1
        if ch in "}])": d -= 1
        if ch == "," and d == 0: out.append(c.strip()); c = ""
        else: c += ch
    if c.strip(): out.append(c.strip())
    return out
def split_stmts(t):
    """statements of one line; scope braces stand alone, operand braces do not"""
    out, c, d, i = [], "", 0, 0
    while i < len(t):
        ch = t[i]
        if ch == ";" : out.append(c); c = ""
        elif ch == "{" and not c.strip(): out.append("{")
        elif ch == "{": d += 1; c += ch
        elif ch == "}" and d: d -= 1; c += ch
        elif ch == "}" and not c.strip(): out.append("}")
        elif ch == ":" and re.match(r"\s*\$?[\w$]+$", c) : out.append(c + ":"); c = ""
        else: c += ch
        i += 1
    if c.strip(): out.append(c)
    return out

HELPERS = r'''
static inline float asf(u32 x) { float f; memcpy(&f, &x, 4); return f; }
static inline double asd(u64 x) { double f; memcpy(&f, &x, 8); return f; }
static inline u32 fbits(float f) { u32 x; memcpy(&x, &f, 4); return x; }
static inline u64 dbits(double f) { u64 x; memcpy(&x, &f, 8); return x; }
static inline float ftz(float x) { return __builtin_fabsf(x) < 1.17549435e-38f && x != 0 ? __builtin_copysignf(0.f, x) : x; }
static inline float sat_(float x) { return x > 1.f ? 1.f : x > 0.f ? x : 0.f; }
template <class T> static inline T shl_(T a, u32 b) { return b >= sizeof(T) * 8 ? 0 : (T)(a << b); }
template <class T> static inline T shr_(T a, u32 b) { return b >= sizeof(T) * 8 ? (T)(a < 0 ? -1 : 0) : (T)(a >> b); }
static inline u32 shf_(u32 lo, u32 hi, u32 c, bool left, bool wrap) { u32 n = wrap ? c & 31 : std::min(c, 32u); u64 v = ((u64)hi << 32) | lo; return left ? (u32)((v << n) >> 32) : (u32)(v >> n); }
static inline u64 brev_(u64 x, int n) { u64 r = 0; for (int i = 0; i < n; ++i) if (x >> i & 1) r |= 1ull << (n - 1 - i); return r; }
static inline u32 prmt_(u32 a, u32 b, u32 c) { u64 v = ((u64)b << 32) | a; u32 r = 0; for (int i = 0; i < 4; ++i) { u32 s = c >> (4 * i) & 15; u8 y = (u8)(v >> (8 * (s & 7))); if (s & 8) y = (y & 0x80) ? 0xff : 0; r |= (u32)y << (8 * i); } return r; }
template <class T> static inline T f2i(double x) { if (x != x) return 0; double lo = (double)std::numeric_limits<T>::min(), hi = (double)std::numeric_limits<T>::max(); return x <= lo ? std::numeric_limits<T>::min() : x >= hi ? std::numeric_limits<T>::max() : (T)x; }
#define RND(name, e2) template <class T> static T rnd_##name(int mode, T a_, T b_, T c_ = 0) { int o = fegetround(); volatile T a = a_, b = b_, c = c_; fesetround(mode); volatile T r = e2; fesetround(o); return r; }
RND(add, a + b) RND(sub, a - b) RND(mul, a * b) RND(div, a / b) RND(fma, (T)(sizeof(T) == 4 ? fmaf((float)a, (float)b, (float)c) : fma((double)a, (double)b, (double)c)))
static inline float h2f(u16 h) { _Float16 f; memcpy(&f, &h, 2); return (float)f; }
static inline u16 f2h(float x) { _Float16 f = (_Float16)x; u16 h; memcpy(&h, &f, 2); return h; }
static inline u8* acc_generic(u64 a, u32 size, int op, int line) { return a >= 0x7000000000000000ull ? acc_shared(a - 0x7000000000000000ull, size, op, line) : acc_global(a, size, op, line); }
'''
HELPERS = "#include <limits>\n#include <cfenv>\n" + HELPERS
DRIVER = r'''
static const char* where_(int) { return "?"; }
static thread_local char wbuf_[4][96]; static int wi_ = 0;
extern const char* SRCNAME;
static const char* whr(int line) { char* b = wbuf_[wi_++ & 3]; snprintf(b, 96, "%s:%d (ptx %d)", SRCNAME, line % 100000, line / 100000); return b; }
const char* SRCNAME = "kern.cu";
extern "C" {
void* emu_new() { Runtime* r = new Runtime; r->where = whr; return r; }
void emu_opts(void* r_, int race, int init, int order, u64 seed) { Runtime* r = (Runtime*)r_; r->check_race = race; r->check_init = init; r->order = order; r->seed = seed | 1; }
void emu_clear(void* r_) { Runtime* r = (Runtime*)r_; r->allocs.clear(); r->last = nullptr; r->errs.clear(); r->err_text.clear(); r->abort_launch = false; r->n_access = r->n_switch = r->n_sync = 0; reg_globals(*r); }
void emu_alloc(void* r_, u64 base, u64 size, u8* init, int ro, const char* name) { ((Runtime*)r_)->allocs.push_back({base, size, nullptr, init, ro != 0, name}); }
int emu_launch(void* r_, const char* kernel, const u32* g, const u32* b, u64 dyn, void* params) {
    R = (Runtime*)r_; R->last = nullptr; R->smem_static = SMEM_STATIC;
    R->smem_ok.assign(SMEM_STATIC + dyn + 16, 0);
    for (auto& v : SVARS) std::fill(R->smem_ok.begin() + v[0], R->smem_ok.begin() + v[0] + v[1], 1);
    std::fill(R->smem_ok.begin() + SMEM_STATIC, R->smem_ok.begin() + SMEM_STATIC + dyn, 1);
    for (auto& k : KERNELS) if (!strcmp(k.n, kernel)) return launch(k.f, params, g, b, dyn);
    return -1;
}
int emu_errors(void* r_, char* buf, int n) { Runtime* r = (Runtime*)r_; std::string s; for (auto& e : r->err_text) s += e + "\n"; snprintf(buf, n, "%s", s.c_str()); int c = 0; for (auto& e : r->errs) c += e.second; return c; }
void emu_prof(void* r_, int on) { Runtime* r = (Runtime*)r_; r->prof = on; r->lines.clear(); }
int emu_prof_get(void* r_, u64* o, int n) { Runtime* r = (Runtime*)r_; int i = 0; for (auto& kv : r->lines) { if (i >= n) break; u64* q = o + 6 * i++; q[0] = kv.first.first % 100000; q[1] = kv.first.first / 100000; q[2] = kv.first.second; q[3] = kv.second.req; q[4] = kv.second.sect; q[5] = kv.second.ideal; } return i; }
void emu_stats(void* r_, u64* o) { Runtime* r = (Runtime*)r_; o[0] = r->n_access; o[1] = r->n_switch; o[2] = r->n_sync; }
}
'''
if __name__ == "__main__":
    import sys
    print(Module(open(sys.argv[1]).read()).cpp())
