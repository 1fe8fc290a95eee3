import time, tempfile, numpy as np, torch, pytest
from pathlib import Path
from evit_edge.converters.coreml import toolkit,writer,metadata,program,executor,compress,int8,ranges,overflow,trace
from .networks import *
from ..tflite.engines import expected,cosines
def run(p,images,rounding,names):
    e=executor.Executor(p,rounding=rounding)
    rs=[e.run({'x':i[None]}) for i in images]
    return [np.concatenate([r[n].numpy() for r in rs]) for n in names]
def stat(w,g):
    return ' '.join(f'{cosines(b,a).min():.6f}/{np.abs(a-b).max()/np.abs(a).max():.1e}' for a,b in zip(w,g))
def save(m):
    d=Path(tempfile.mkdtemp())/'m.mlpackage'; metadata.save(m,d); return program.load(d)
@pytest.mark.parametrize('name',NETWORKS)
def test(name):
    m=network(name); images=photographs(6,SIZE); want=expected(m,images)
    names=[f'y{i}' for i in range(len(want))]
    print()
    print(name, 'roll', ' '.join(f'{cosines(np.roll(a,1,0),a).min():.4f}' for a in want))
    for t,half in (('iOS15',True),('iOS18',True),('iOS26',False),('iOS17',True)):
        t0=time.time()
        with toolkit.quiet(): w=writer.write(m,writer.Form(target=t,shape=(3,SIZE,SIZE),inputs=['x'],outputs=names,half=half)); 
        t1=time.time()
        p=save(w); g=run(p,images,True,names)
        print(name,t,half,stat(want,g),f'{t1-t0:.1f} {time.time()-t1:.1f}', sorted({o.kind for o in p.operations}) if t=='iOS15' else '')
    t0=time.time(); q=save(compress.quantize_weights(w)); print(name,'w8',stat(want,run(q,images,True,names)),time.time()-t0)
    t0=time.time(); q=save(compress.palettize(w,'pal8',grouped=False)); print(name,'pal8',stat(want,run(q,images,True,names)),time.time()-t0)
    t0=time.time(); q=save(int8.quantize(w,p,ranges.measure(p,({'x':i[None]} for i in photographs(32,SIZE,training=True)),rounding=False))); print(name,'int8',stat(want,run(q,images,True,names)),time.time()-t0)
