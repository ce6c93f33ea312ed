"""SQLAlchemy: see README.md. Reflects the schema, as every tool built on it does, and works with mapped objects."""

import os

import sqlalchemy
from sqlalchemy import MetaData, create_engine, func, inspect, select, text
from sqlalchemy.ext.automap import automap_base
from sqlalchemy.orm import Session

engine = create_engine(
    "postgresql+{}://{PGUSER}:{PGPASSWORD}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(
        "psycopg2", **{name: os.environ[name].replace(" ", "%20") for name in os.environ if name.startswith("PG")}
    )
)

inspector = inspect(engine)
print("connected", inspector.default_schema_name, inspector.get_schema_names())
for table in sorted(inspector.get_table_names()) + sorted(inspector.get_view_names()):
    for column in inspector.get_columns(table):
        print("binary", table, {key: str(value) for key, value in column.items()})
    print("binary", inspector.get_pk_constraint(table), inspector.get_foreign_keys(table))
    print("binary", inspector.get_indexes(table), inspector.get_unique_constraints(table))
    print("binary", inspector.get_check_constraints(table), inspector.get_table_comment(table))
print("binary", inspector.get_view_definition("contacts"), inspector.get_enums(), inspector.get_sequence_names())

base = automap_base(metadata=MetaData())
base.prepare(engine, reflect=True)
Product, Part, Order, Person = (base.classes[name] for name in ["products", "parts", "orders", "people"])

with Session(engine) as session:
    for product in session.execute(select(Product).order_by(Product.id).limit(3)).scalars():
        print("prepared", product.name, product.price)
    order = session.get(Order, 5)
    print("prepared", order.status, [item.products.name for item in order.order_items_collection], order.customers.id)
    session.add(Part(id=1000, name="inside"))
    session.flush()
    print("transaction", session.scalar(select(func.count()).select_from(Part)))
    with session.begin_nested() as inner:
        session.add(Part(id=1001, name="nested"))
        session.flush()
        inner.rollback()
    session.rollback()
    print("transaction", session.scalar(select(func.count()).select_from(Part)))
    session.add_all([Part(id=number, name=str(number)) for number in range(1, 40)])
    session.commit()
    print("copy", session.query(Part).filter(Part.id.in_([1, 2, 3])).delete(synchronize_session=False))
    print("copy", session.query(Part).filter(Part.id > 3).delete(synchronize_session=False))
    session.commit()
    try:
        session.execute(text("TRUNCATE parts"))
        session.commit()
        print("refused none")
    except sqlalchemy.exc.DBAPIError as error:
        session.rollback()
        print("refused", getattr(error.orig, "pgcode", None) or getattr(error.orig, "sqlstate", None))
    print("after", session.scalar(select(func.count()).select_from(Product)))
    person = session.execute(select(Person).order_by(Person.id)).scalars().first()
    columns = [column.key for column in Person.__table__.columns]
    print("masked", *(repr(getattr(person, name)) for name in columns))
print("done")
